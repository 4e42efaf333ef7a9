select
    ordered_date,
    segment,
    currency,
    count(*) as order_count,
    count(distinct customer_id) as customer_count,
    sum(total_minor)::bigint as gross_revenue_minor,
    sum(returned_minor)::bigint as returned_minor,
    sum(total_minor - returned_minor)::bigint as net_revenue_minor
from {{ ref('fct_orders') }}
group by ordered_date, segment, currency
