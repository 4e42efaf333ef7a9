with customers as (
    select * from {{ ref('dim_customer') }}
    where is_current
),

orders as (
    select
        customer_id,
        count(*) as order_count,
        count(*) filter (where order_status != 'paid') as returned_order_count,
        sum(total_minor) as gross_revenue_minor,
        sum(total_minor - returned_minor) as net_revenue_minor,
        min(ordered_at) as first_ordered_at,
        max(ordered_at) as last_ordered_at
    from {{ ref('fct_orders') }}
    group by customer_id
),

active_days as (
    select
        customer_id,
        started_date,
        count(*) as session_count,
        min(started_at) as first_seen_at,
        max(ended_at) as last_seen_at
    from {{ ref('fct_sessions') }}
    where customer_id is not null
    group by customer_id, started_date
),

sessions as (
    select
        customer_id,
        sum(session_count)::bigint as session_count,
        count(*) as active_day_count,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at
    from active_days
    group by customer_id
)

select
    customers.customer_id,
    customers.grade,
    customers.segment,
    customers.region,
    customers.birth_year,
    customers.signup_channel,
    customers.signed_up_at,
    customers.has_marketing_consent,
    coalesce(sessions.session_count, 0) as session_count,
    coalesce(sessions.active_day_count, 0) as active_day_count,
    sessions.first_seen_at,
    sessions.last_seen_at,
    coalesce(orders.order_count, 0) as order_count,
    coalesce(orders.returned_order_count, 0) as returned_order_count,
    coalesce(orders.gross_revenue_minor, 0)::bigint as gross_revenue_minor,
    coalesce(orders.net_revenue_minor, 0)::bigint as net_revenue_minor,
    orders.first_ordered_at,
    orders.last_ordered_at
from customers
left join orders on customers.customer_id = orders.customer_id
left join sessions on customers.customer_id = sessions.customer_id
