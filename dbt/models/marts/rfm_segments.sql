-- recency counts from the last day that the warehouse has, so that a rebuild gives the same
with today as (
    {{ last_visited_day() }}
),

buyers as (
    select
        customer_id,
        order_count,
        net_revenue_minor,
        {{ shop_date('last_ordered_at') }} as last_ordered_date
    from {{ ref('customer_360') }}
    where order_count > 0
),

scored as (
    select
        buyers.customer_id,
        today.as_of_date,
        greatest(today.as_of_date - buyers.last_ordered_date, 0) as recency_days,
        buyers.order_count,
        buyers.net_revenue_minor,
        -- 5 is best; ties by id, so that a score is the same whatever the order of rows
        6 - ntile(5) over (order by buyers.last_ordered_date desc, buyers.customer_id asc) as recency_score,
        ntile(5) over (order by buyers.order_count asc, buyers.customer_id asc) as frequency_score,
        ntile(5) over (order by buyers.net_revenue_minor asc, buyers.customer_id asc) as monetary_score
    from buyers
    cross join today
)

select
    customer_id,
    as_of_date,
    recency_days,
    order_count,
    net_revenue_minor,
    recency_score,
    frequency_score,
    monetary_score,
    case
        when recency_score >= 4 and frequency_score >= 4 and monetary_score >= 4 then 'champion'
        when recency_score >= 3 and frequency_score >= 4 then 'loyal'
        when recency_score >= 4 and frequency_score <= 2 then 'recent'
        when recency_score <= 2 and frequency_score >= 4 then 'at_risk'
        when recency_score <= 2 and frequency_score <= 2 then 'hibernating'
        else 'regular'
    end as rfm_segment
from scored
