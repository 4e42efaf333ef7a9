{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='event_id',
        indexes=[
            {'columns': ['event_id'], 'unique': true},
            {'columns': ['session_id']},
            {'columns': ['customer_id', 'occurred_at']},
            {'columns': ['published_batch'], 'type': 'brin'},
        ],
        pre_hook="{{ delete_gone('events', 'event_id', 'first_key') }}",
    )
}}
-- depends_on: {{ ref('stg_lake__deleted_keys') }}

{% set columns = [
    'event_id', 'event_type', 'visitor_id', 'customer_id', 'session_id', 'page_path', 'referrer', 'device',
    'utm_source', 'utm_medium', 'utm_campaign', 'product_id', 'order_id', 'occurred_at', 'sequence', 'published_batch'
] %}

with events as (
    select {{ columns | join(', ') }}
    from {{ ref('stg_lake__events') }} as events
    where {{ is_new('events', 'events') }}
    {% if is_incremental() %}
        union all
        -- what a version of a customer that was added or is gone now says otherwise
        select held.{{ columns | join(', held.') }}
        from {{ this }} as held
        where
            held.event_id in (
                {{ described_anew('event_id', 'customer', 'occurred_at', []) }}
            )
            and not exists (
                select 1 from {{ ref('stg_lake__events') }} as newer
                where newer.event_id = held.event_id and {{ is_new('events', 'newer') }}
            )
    {% endif %}
)

select
    events.event_id,
    events.event_type,
    events.visitor_id,
    events.customer_id,
    customers.customer_key,
    events.session_id,
    events.page_path,
    events.referrer,
    events.device,
    events.utm_source,
    events.utm_medium,
    events.utm_campaign,
    events.product_id,
    events.order_id,
    events.occurred_at,
    {{ shop_date('events.occurred_at') }} as occurred_date,
    events.sequence,
    events.published_batch
from events
left join {{ ref('dim_customer') }} as customers
    on
        {{ as_of('customers', 'customer_id', 'events', 'occurred_at') }}
