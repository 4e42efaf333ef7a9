select
    order_lines.ordered_date,
    coalesce(products.category, 'unknown') as category,
    order_lines.currency,
    count(distinct order_lines.order_id) as order_count,
    sum(order_lines.quantity)::bigint as quantity,
    sum(order_lines.line_total_minor)::bigint as gross_revenue_minor,
    coalesce(sum(order_lines.line_total_minor) filter (where order_lines.order_status != 'paid'), 0)::bigint
        as returned_minor
from {{ ref('fct_order_lines') }} as order_lines
left join {{ ref('dim_product') }} as products on order_lines.product_key = products.product_key
group by order_lines.ordered_date, coalesce(products.category, 'unknown'), order_lines.currency
