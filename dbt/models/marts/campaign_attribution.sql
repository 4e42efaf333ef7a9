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

-- what no campaign brought is credited to none, so that the sums are those of all orders
touches as (
    select
        orders.ordered_date,
        orders.currency,
        orders.net_revenue_minor,
        coalesce(sessions.utm_campaign, 'none') as utm_campaign,
        row_number()
            over (partition by orders.order_id order by sessions.started_at, sessions.session_id)
            as place,
        count(*) over (partition by orders.order_id) as touch_count
    from orders
    left join {{ ref('fct_sessions') }} as sessions
        on
            orders.customer_id = sessions.customer_id
            and orders.ordered_at >= sessions.started_at
            and sessions.started_at > orders.ordered_at - interval '30 days'
            and sessions.utm_campaign is not null
),

credits as (
    select
        ordered_date,
        currency,
        net_revenue_minor,
        utm_campaign,
        (place = 1)::int as first_credit,
        (place = touch_count)::int as last_credit,
        1.0 / touch_count as linear_credit
    from touches
)

select
    ordered_date,
    utm_campaign,
    currency,
    sum(first_credit)::bigint as first_touch_order_count,
    sum(last_credit)::bigint as last_touch_order_count,
    round(sum(linear_credit), 6) as linear_order_count,
    sum(first_credit * net_revenue_minor)::bigint as first_touch_revenue_minor,
    sum(last_credit * net_revenue_minor)::bigint as last_touch_revenue_minor,
    round(sum(linear_credit * net_revenue_minor), 2) as linear_revenue_minor
from credits
group by ordered_date, utm_campaign, currency
