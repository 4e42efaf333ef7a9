with signups as (
    select
        customer_id,
        {{ shop_date('signed_up_at') }} as signed_up_date
    from {{ ref('dim_customer') }}
    where is_current
),

bounds as (
    select
        min(started_date) as first_date,
        {{ last_date('started_date') }} as last_date
    from {{ ref('fct_sessions') }}
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

-- only cohorts whose day the warehouse has whole
cohorts as (
    select
        signups.customer_id,
        signups.signed_up_date as cohort_date,
        ages.day_number
    from signups
    cross join ages
    cross join bounds
    where
        signups.signed_up_date >= bounds.first_date
        and signups.signed_up_date + ages.day_number <= bounds.last_date
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
