{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='session_id',
        indexes=[
            {'columns': ['session_id'], 'unique': true},
            {'columns': ['customer_id', 'started_at']},
            {'columns': ['started_date']},
            {'columns': ['published_batch'], 'type': 'brin'},
        ],
        pre_hook="{{ delete_gone('events', 'session_id', 'belongs_to') }}",
    )
}}

-- a late step changes its session, however long ago that was: the whole of it is made again
with changed as (
    {{ to_remake('session_id', ref('fct_events'), 'events', 'customer', 'started_at') }}
),

steps as (
    select events.*
    from {{ ref('fct_events') }} as events
    {% if is_incremental() %}
        inner join changed on events.session_id = changed.session_id
    {% endif %}
),

sessions as (
    select
        session_id,
        min(visitor_id) as visitor_id,
        -- a visit becomes known by a log-in or a sign-up
        max(customer_id) as customer_id,
        min(device) as device,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        (array_agg(page_path order by sequence, event_id))[1] as landing_path,
        (array_agg(referrer order by sequence, event_id))[1] as referrer,
        (array_agg(utm_source order by sequence, event_id) filter (where utm_source is not null))[1]
            as utm_source,
        (array_agg(utm_medium order by sequence, event_id) filter (where utm_source is not null))[1]
            as utm_medium,
        (array_agg(utm_campaign order by sequence, event_id) filter (where utm_source is not null))[1]
            as utm_campaign,
        count(*) as event_count,
        count(*) filter (where event_type = 'page_view') as page_view_count,
        bool_or(product_id is not null) as has_product_view,
        bool_or(event_type = 'add_to_cart') as has_cart,
        bool_or(event_type = 'checkout') as has_checkout,
        bool_or(event_type = 'purchase') as has_purchase,
        bool_or(event_type = 'signup') as has_signup,
        max(published_batch) as published_batch
    from steps
    group by session_id
)

select
    sessions.session_id,
    sessions.visitor_id,
    sessions.customer_id,
    customers.customer_key,
    sessions.device,
    sessions.started_at,
    sessions.ended_at,
    {{ shop_date('sessions.started_at') }} as started_date,
    sessions.landing_path,
    sessions.referrer,
    {{ channel('sessions.utm_medium', 'sessions.referrer') }} as channel,
    sessions.utm_source,
    sessions.utm_medium,
    sessions.utm_campaign,
    sessions.event_count,
    sessions.page_view_count,
    sessions.has_product_view,
    sessions.has_cart,
    sessions.has_checkout,
    sessions.has_purchase,
    sessions.has_signup,
    sessions.published_batch
from sessions
left join {{ ref('dim_customer') }} as customers
    on
        {{ as_of('customers', 'customer_id', 'sessions', 'started_at') }}
