with source as (
    select * from {{ source('lake', 'products') }}
),

renamed as (
    select
        product_id,
        category_path,
        name as product_name,
        price_minor,
        currency,
        restock_level,
        restocked_at,
        is_active,
        occurred_at,
        effective_at,
        sequence,
        published_batch
    from source
)

select * from renamed
