{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='order_id',
        indexes=[
            {'columns': ['order_id'], 'unique': true},
            {'columns': ['customer_id', 'ordered_at']},
            {'columns': ['ordered_date']},
            {'columns': ['published_batch'], 'type': 'brin'},
        ],
        pre_hook="{{ delete_gone('orders', 'order_id', 'belongs_to') }}",
    )
}}

with changed as (
    {{ to_remake('order_id', ref('fct_order_status'), 'orders', 'customer', 'ordered_at', ['segment']) }}
),

-- every status carries the whole order: the newest says what it is
newest as (
    select distinct on (statuses.order_id) statuses.*
    from {{ ref('fct_order_status') }} as statuses
    inner join changed on statuses.order_id = changed.order_id
    order by statuses.order_id asc, statuses.sequence desc, statuses.order_event_id asc
)

select
    newest.order_id,
    newest.customer_id,
    customers.customer_key,
    coalesce(customers.segment, 'unknown') as segment,
    newest.order_status,
    newest.ordered_at,
    {{ shop_date('newest.ordered_at') }} as ordered_date,
    jsonb_array_length(newest.order_lines) as line_count,
    newest.discount_minor,
    newest.total_minor,
    case when newest.order_status = 'paid' then 0 else newest.total_minor end as returned_minor,
    newest.currency,
    newest.payment_method,
    newest.published_batch
from newest
left join {{ ref('dim_customer') }} as customers
    on
        {{ as_of('customers', 'customer_id', 'newest', 'ordered_at') }}
