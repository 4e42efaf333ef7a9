-- stock is never sent: it follows from the last refill and what was ordered since
with refills as (
    select
        product_id,
        restocked_at,
        max(restock_level) as restock_level,
        lead(restocked_at) over (partition by product_id order by restocked_at) as next_restocked_at
    from {{ ref('dim_product') }}
    group by product_id, restocked_at
),

sold as (
    select
        refills.product_id,
        refills.restocked_at,
        order_lines.ordered_date as stock_date,
        sum(order_lines.quantity) as sold_quantity
    from {{ ref('fct_order_lines') }} as order_lines
    inner join refills
        on
            order_lines.product_id = refills.product_id
            and order_lines.ordered_at >= refills.restocked_at
            and order_lines.ordered_at < coalesce(refills.next_restocked_at, 'infinity')
    group by refills.product_id, refills.restocked_at, order_lines.ordered_date
),

today as (
    select max(ordered_date) as last_date
    from {{ ref('fct_order_lines') }}
    where {{ has_come('ordered_date') }}
),

-- the days that end with a refill's pieces
at_end_of_day as (
    select
        refills.*,
        dates.start_of_day::date as stock_date
    from refills
    cross join today
    cross join lateral generate_series(
        {{ shop_date('refills.restocked_at') }}::timestamp,
        least({{ shop_date('refills.next_restocked_at') }} - 1, today.last_date)::timestamp,
        interval '1 day'
    ) as dates (start_of_day)
),

sold_so_far as (
    select
        at_end_of_day.product_id,
        at_end_of_day.stock_date,
        at_end_of_day.restocked_at,
        at_end_of_day.restock_level,
        coalesce(sold.sold_quantity, 0) as sold_quantity,
        coalesce(sum(sold.sold_quantity) over (
            partition by at_end_of_day.product_id, at_end_of_day.restocked_at
            order by at_end_of_day.stock_date
        ), 0) as sold_since_restock
    from at_end_of_day
    left join sold
        on
            at_end_of_day.product_id = sold.product_id
            and at_end_of_day.restocked_at = sold.restocked_at
            and at_end_of_day.stock_date = sold.stock_date
)

select
    product_id,
    stock_date,
    restocked_at,
    restock_level,
    sold_quantity::bigint as sold_quantity,
    (restock_level - sold_since_restock)::bigint as stock_level,
    sold_since_restock >= restock_level as is_sold_out
from sold_so_far
