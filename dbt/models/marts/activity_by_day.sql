with records as (
    select
        'events' as entity,
        started_date as activity_date,
        event_count as record_count
    from {{ ref('fct_sessions') }}
    union all
    select
        'orders' as entity,
        occurred_date as activity_date,
        1 as record_count
    from {{ ref('fct_order_status') }}
    union all
    select
        'products' as entity,
        {{ shop_date('valid_from') }} as activity_date,
        1 as record_count
    from {{ ref('dim_product') }}
    union all
    select
        'profiles' as entity,
        {{ shop_date('valid_from') }} as activity_date,
        1 as record_count
    from {{ ref('dim_customer') }}
)

select
    activity_date,
    entity,
    sum(record_count)::bigint as record_count
from records
group by activity_date, entity
