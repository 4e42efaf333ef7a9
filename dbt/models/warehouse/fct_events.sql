{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='event_id') }}

with events as (
    select * from {{ ref('stg_lake__events') }}
    {{ since_last_batch() }}
)

select
    event_id,
    event_type,
    visitor_id,
    customer_id,
    session_id,
    page_path,
    device,
    utm_source,
    utm_medium,
    utm_campaign,
    product_id,
    order_id,
    occurred_at,
    {{ shop_date('occurred_at') }} as occurred_date,
    published_batch
from events
