with sold as (
    select
        product_id,
        ordered_date,
        count(distinct order_id) as order_count,
        sum(quantity) as quantity,
        sum(line_total_minor) as gross_revenue_minor,
        sum(line_total_minor) filter (where order_status != 'paid') as returned_minor
    from {{ ref('fct_order_lines') }}
    group by product_id, ordered_date
)

-- what was sold of a product without a known refill on that day is sold all the same
select
    coalesce(stock.product_id, sold.product_id) as product_id,
    coalesce(stock.stock_date, sold.ordered_date) as performance_date,
    coalesce(sold.order_count, 0) as order_count,
    coalesce(sold.quantity, 0)::bigint as quantity,
    coalesce(sold.gross_revenue_minor, 0)::bigint as gross_revenue_minor,
    coalesce(sold.returned_minor, 0)::bigint as returned_minor,
    stock.stock_level,
    stock.is_sold_out
from {{ ref('fct_stock_daily') }} as stock
full join sold
    on
        stock.product_id = sold.product_id
        and stock.stock_date = sold.ordered_date
