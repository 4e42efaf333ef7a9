{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='order_event_id') }}

with orders as (
    select * from {{ ref('stg_lake__orders') }}
    {{ since_last_batch() }}
)

select
    order_event_id,
    order_id,
    customer_id,
    order_status,
    ordered_at,
    order_lines,
    discount_minor,
    total_minor,
    currency,
    payment_method,
    occurred_at,
    {{ shop_date('occurred_at') }} as occurred_date,
    sequence,
    published_batch
from orders
