-- an order is credited to the campaigns that brought its customer within the thirty days before it
with orders as (
    select
        order_id,
        customer_id,
        ordered_at,
        ordered_date,
        currency,
        total_minor - returned_minor as net_revenue_minor
    from {{ ref('fct_orders') }}
),

touches as (
    select
        orders.order_id,
        sessions.utm_campaign,
        row_number()
            over (partition by orders.order_id order by sessions.started_at, sessions.session_id)
            as place,
        count(*) over (partition by orders.order_id) as touch_count
    from orders
    inner join {{ ref('fct_sessions') }} as sessions
        on
            orders.customer_id = sessions.customer_id
            and orders.ordered_at >= sessions.started_at
            and sessions.started_at > orders.ordered_at - interval '30 days'
    where sessions.utm_campaign is not null
),

credits as (
    select
        order_id,
        utm_campaign,
        (place = 1)::int as first_credit,
        (place = touch_count)::int as last_credit,
        1.0 / touch_count as linear_credit
    from touches
    union all
    -- what no campaign brought is credited to none, so that the sums are those of all orders
    select
        orders.order_id,
        'none' as utm_campaign,
        1 as first_credit,
        1 as last_credit,
        1.0 as linear_credit
    from orders
    left join touches on orders.order_id = touches.order_id
    where touches.order_id is null
)

select
    orders.ordered_date,
    credits.utm_campaign,
    orders.currency,
    sum(credits.first_credit)::bigint as first_touch_order_count,
    sum(credits.last_credit)::bigint as last_touch_order_count,
    round(sum(credits.linear_credit), 6) as linear_order_count,
    sum(credits.first_credit * orders.net_revenue_minor)::bigint as first_touch_revenue_minor,
    sum(credits.last_credit * orders.net_revenue_minor)::bigint as last_touch_revenue_minor,
    round(sum(credits.linear_credit * orders.net_revenue_minor), 2) as linear_revenue_minor
from credits
inner join orders on credits.order_id = orders.order_id
group by orders.ordered_date, credits.utm_campaign, orders.currency
