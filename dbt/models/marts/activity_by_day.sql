with records as (
    select
        'events' as entity,
        occurred_date as activity_date
    from {{ ref('fct_events') }}
    union all
    select
        'orders' as entity,
        occurred_date as activity_date
    from {{ ref('fct_order_status') }}
    union all
    select
        'products' as entity,
        {{ shop_date('valid_from') }} as activity_date
    from {{ ref('dim_product') }}
    union all
    select
        'profiles' as entity,
        {{ shop_date('valid_from') }} as activity_date
    from {{ ref('dim_customer') }}
)

select
    activity_date,
    entity,
    count(*)::bigint as record_count
from records
group by activity_date, entity
