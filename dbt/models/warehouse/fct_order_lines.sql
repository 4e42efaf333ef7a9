{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='order_id',
        indexes=[
            {'columns': ['order_id', 'line_number'], 'unique': true},
            {'columns': ['product_id', 'ordered_at']},
            {'columns': ['ordered_date']},
            {'columns': ['published_batch'], 'type': 'brin'},
        ],
        pre_hook="{{ delete_gone('orders', 'order_id', 'belongs_to') }}",
    )
}}

with changed as (
    {{ to_remake('order_id', ref('fct_order_status'), 'orders', 'product', 'ordered_at') }}
),

newest as (
    select distinct on (statuses.order_id) statuses.*
    from {{ ref('fct_order_status') }} as statuses
    inner join changed on statuses.order_id = changed.order_id
    order by statuses.order_id asc, statuses.sequence desc, statuses.order_event_id asc
),

order_lines as (
    select
        newest.*,
        listed.line_number,
        listed.line ->> 'product_id' as product_id,
        (listed.line ->> 'quantity')::bigint as quantity,
        (listed.line ->> 'unit_price_minor')::bigint as unit_price_minor
    from newest
    cross join lateral jsonb_array_elements(newest.order_lines) with ordinality as listed (line, line_number)
)

select
    order_lines.order_id,
    order_lines.line_number,
    order_lines.customer_id,
    order_lines.product_id,
    products.product_key,
    order_lines.order_status,
    order_lines.ordered_at,
    {{ shop_date('order_lines.ordered_at') }} as ordered_date,
    order_lines.quantity,
    order_lines.unit_price_minor,
    order_lines.quantity * order_lines.unit_price_minor as line_total_minor,
    order_lines.currency,
    order_lines.published_batch
from order_lines
left join {{ ref('dim_product') }} as products
    on
        {{ as_of('products', 'product_id', 'order_lines', 'ordered_at') }}
