with days as (
    select day::date as date_day
    from generate_series({{ shop_calendar() }}, interval '1 day') as series (day)
),

holidays as (
    select
        holiday_date,
        holiday_name
    from (values {{ shop_holidays() }}) as listed (holiday_date, holiday_name)
)

select
    days.date_day,
    extract(year from days.date_day)::int as year_number,
    extract(quarter from days.date_day)::int as quarter_of_year,
    extract(month from days.date_day)::int as month_of_year,
    extract(isodow from days.date_day)::int as day_of_week,
    date_trunc('week', days.date_day)::date as week_start_date,
    date_trunc('month', days.date_day)::date as month_start_date,
    extract(isodow from days.date_day) >= 6 as is_weekend,
    holidays.holiday_name is not null as is_holiday,
    holidays.holiday_name
from days
left join holidays on days.date_day = holidays.holiday_date
