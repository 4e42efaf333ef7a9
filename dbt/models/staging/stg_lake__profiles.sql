with source as (
    select * from {{ source('lake', 'profiles') }}
),

renamed as (
    select
        customer_id,
        grade,
        segment,
        signed_up_at,
        signup_channel,
        region,
        birth_year,
        has_marketing_consent,
        occurred_at,
        effective_at,
        sequence,
        published_batch
    from source
)

select * from renamed
