with statuses as (
    select * from {{ ref('fct_order_status') }}
),

-- every status carries the whole order: the newest says what it is
newest as (
    select distinct on (order_id) *
    from statuses
    order by order_id asc, sequence desc, order_event_id asc
)

select
    order_id,
    customer_id,
    order_status,
    ordered_at,
    {{ shop_date('ordered_at') }} as ordered_date,
    jsonb_array_length(order_lines) as line_count,
    discount_minor,
    total_minor,
    case when order_status = 'paid' then 0 else total_minor end as returned_minor,
    currency,
    payment_method,
    published_batch
from newest
