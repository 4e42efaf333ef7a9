with orders as (
    select * from {{ ref('fct_orders') }}
),

customers as (
    select * from {{ ref('dim_customer') }}
),

-- the customer as they were when they ordered
orders_joined_to_customers as (
    select
        orders.*,
        coalesce(customers.segment, 'unknown') as segment
    from orders
    left join customers
        on
            orders.customer_id = customers.customer_id
            and orders.ordered_at >= customers.valid_from
            and orders.ordered_at < coalesce(customers.valid_to, 'infinity')
)

select
    ordered_date,
    segment,
    currency,
    count(*)::bigint as order_count,
    count(distinct customer_id)::bigint as customer_count,
    sum(total_minor)::bigint as gross_revenue_minor,
    sum(returned_minor)::bigint as returned_minor,
    sum(total_minor - returned_minor)::bigint as net_revenue_minor
from orders_joined_to_customers
group by ordered_date, segment, currency
