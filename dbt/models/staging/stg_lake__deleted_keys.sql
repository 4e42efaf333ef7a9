with source as (
    select * from {{ source('lake', 'deleted_keys') }}
),

renamed as (
    select
        entity,
        record_key[1] as first_key,
        record_key[2] as second_key,
        belongs_to,
        published_batch
    from source
)

select * from renamed
