{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='order_id',
        indexes=[
            {'columns': ['order_id'], 'unique': true},
            {'columns': ['customer_id', 'ordered_at']},
            {'columns': ['ordered_date']},
            {'columns': ['published_batch'], 'type': 'brin'},
        ],
        pre_hook="{{ delete_gone('orders', 'order_id', 'belongs_to') }}",
    )
}}

with changed as (
    select statuses.order_id
    from {{ ref('fct_order_status') }} as statuses
    where {{ is_new('orders', 'statuses') }}
    union
    {{ deleted_since('orders', 'belongs_to') }}
    {% if is_incremental() %}
        union
        select held.order_id
        from {{ this }} as held
        inner join {{ ref('dim_customer') }} as customers
            on
                held.customer_id = customers.customer_id
                and held.ordered_at >= customers.valid_from
                and held.ordered_at < coalesce(customers.valid_to, 'infinity')
                and held.customer_key is distinct from customers.customer_key
        where {{ is_new('profiles', 'customers') }}
    {% endif %}
),

-- every status carries the whole order: the newest says what it is
newest as (
    select distinct on (statuses.order_id) statuses.*
    from {{ ref('fct_order_status') }} as statuses
    inner join changed on statuses.order_id = changed.order_id
    order by statuses.order_id asc, statuses.sequence desc, statuses.order_event_id asc
)

select
    newest.order_id,
    newest.customer_id,
    customers.customer_key,
    coalesce(customers.segment, 'unknown') as segment,
    newest.order_status,
    newest.ordered_at,
    {{ shop_date('newest.ordered_at') }} as ordered_date,
    jsonb_array_length(newest.order_lines) as line_count,
    newest.discount_minor,
    newest.total_minor,
    case when newest.order_status = 'paid' then 0 else newest.total_minor end as returned_minor,
    newest.currency,
    newest.payment_method,
    newest.published_batch
from newest
left join {{ ref('dim_customer') }} as customers
    on
        newest.customer_id = customers.customer_id
        and newest.ordered_at >= customers.valid_from
        and newest.ordered_at < coalesce(customers.valid_to, 'infinity')
