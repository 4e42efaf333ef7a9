-- by rule: how long a customer has been away, against how often they came
with today as (
    {{ last_visited_day() }}
),

customers as (
    select
        customer_id,
        active_day_count,
        {{ shop_date('first_seen_at') }} as first_seen_date,
        {{ shop_date('last_seen_at') }} as last_seen_date
    from {{ ref('customer_360') }}
    where session_count > 0
),

measured as (
    select
        customers.customer_id,
        today.as_of_date,
        customers.active_day_count,
        greatest(today.as_of_date - customers.last_seen_date, 0) as days_away,
        case
            when customers.active_day_count > 1
                then
                    round(
                        (customers.last_seen_date - customers.first_seen_date)::numeric
                        / (customers.active_day_count - 1), 2
                    )
        end as usual_gap_days
    from customers
    cross join today
)

select
    customer_id,
    as_of_date,
    active_day_count,
    days_away,
    usual_gap_days,
    case
        when days_away <= 7 then 'low'
        when days_away > 90 then 'lost'
        when usual_gap_days is not null and days_away > 3 * greatest(usual_gap_days, 7) then 'high'
        when usual_gap_days is null and days_away > 30 then 'high'
        else 'medium'
    end as risk
from measured
