{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='customer_id',
        indexes=[{'columns': ['customer_id', 'valid_from']}, {'columns': ['published_batch'], 'type': 'brin'}],
        pre_hook="{{ delete_gone('profiles', fingerprint('customer_id'), 'belongs_to') }}",
    )
}}

-- a version that comes late moves the end of the one before it: all versions of its owner are made again
with changed as (
    select profiles.customer_id
    from {{ ref('stg_lake__profiles') }} as profiles
    where {{ is_new('profiles', 'profiles') }}
    union
    select profiles.customer_id
    from {{ ref('stg_lake__profiles') }} as profiles
    where {{ fingerprint('profiles.customer_id') }} in ({{ deleted_since('profiles', 'belongs_to') }})
),

gone as (
    {{ last_gone('profiles') }}
),

profiles as (
    select
        profiles.*,
        gone.published_batch as gone_batch
    from {{ ref('stg_lake__profiles') }} as profiles
    inner join changed on profiles.customer_id = changed.customer_id
    left join gone on {{ fingerprint('profiles.customer_id') }} = gone.belongs_to
),

versions as (
    select
        {{ surrogate_key('customer_id', 'effective_at') }} as customer_key,
        customer_id,
        grade,
        segment,
        signed_up_at,
        signup_channel,
        region,
        birth_year,
        has_marketing_consent,
        effective_at as valid_from,
        lead(effective_at) over (partition by customer_id order by effective_at, sequence) as valid_to,
        -- facts may fall to any version of an owner one of whose versions came, changed or went
        greatest(
            max(published_batch) over (partition by customer_id),
            max(gone_batch) over (partition by customer_id)
        ) as published_batch
    from profiles
)

select
    *,
    valid_to is null as is_current
from versions
-- of versions of one instant, the last by sequence
where valid_to is null or valid_to > valid_from
