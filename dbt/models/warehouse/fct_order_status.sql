{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key=['order_id', 'order_event_id'],
        indexes=[
            {'columns': ['order_id', 'order_event_id'], 'unique': true},
            {'columns': ['published_batch'], 'type': 'brin'},
        ],
        pre_hook="{{ delete_gone('orders', '(order_id, order_event_id)', 'first_key', 'second_key') }}",
    )
}}
-- depends_on: {{ ref('stg_lake__deleted_keys') }}

with orders as (
    select *
    from {{ ref('stg_lake__orders') }} as orders
    where {{ is_new('orders', 'orders') }}
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
