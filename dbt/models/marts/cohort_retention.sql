with signups as (
    select
        customer_id,
        {{ shop_date('signed_up_at') }} as signed_up_date
    from {{ ref('dim_customer') }}
    where is_current
),

-- what the warehouse has of days that are over: an event of long ago does not stand for the years after it
days as (
    select distinct started_date
    from {{ ref('fct_sessions') }}
    where started_date < {{ shop_date('now()') }}
),

ages as (
    select * from (values (1), (7), (14), (30), (60), (90)) as listed (day_number)
),

visits as (
    select distinct
        sessions.customer_id,
        ages.day_number
    from {{ ref('fct_sessions') }} as sessions
    inner join signups on sessions.customer_id = signups.customer_id
    inner join ages on sessions.started_date - signups.signed_up_date = ages.day_number
),

-- only cohorts of whose days the warehouse has both
cohorts as (
    select
        signups.customer_id,
        signups.signed_up_date as cohort_date,
        ages.day_number
    from signups
    cross join ages
    inner join days as signup_days on signups.signed_up_date = signup_days.started_date
    inner join days as return_days on signups.signed_up_date + ages.day_number = return_days.started_date
)

select
    cohorts.cohort_date,
    cohorts.day_number,
    count(*) as customer_count,
    count(visits.customer_id) as returned_count
from cohorts
left join visits
    on
        cohorts.customer_id = visits.customer_id
        and cohorts.day_number = visits.day_number
group by cohorts.cohort_date, cohorts.day_number
