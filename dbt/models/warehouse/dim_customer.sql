with profiles as (
    select * from {{ ref('stg_lake__profiles') }}
),

versions as (
    select
        md5(customer_id || '/' || sequence) as customer_key,
        customer_id,
        grade,
        segment,
        signed_up_at,
        signup_channel,
        region,
        birth_year,
        has_marketing_consent,
        occurred_at as valid_from,
        lead(occurred_at) over (partition by customer_id order by sequence) as valid_to,
        published_batch
    from profiles
)

select
    *,
    valid_to is null as is_current
from versions
