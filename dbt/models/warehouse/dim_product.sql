{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key='product_id',
        indexes=[{'columns': ['product_id', 'valid_from']}, {'columns': ['published_batch'], 'type': 'brin'}],
        pre_hook="{{ delete_gone('products', 'product_id', 'belongs_to') }}",
    )
}}

-- a version that comes late moves the end of the one before it: all versions of its owner are made again
with changed as (
    select products.product_id
    from {{ ref('stg_lake__products') }} as products
    where {{ is_new('products', 'products') }}
    union
    {{ deleted_since('products', 'belongs_to') }}
),

gone as (
    {{ last_gone('products') }}
),

products as (
    select
        products.*,
        gone.published_batch as gone_batch
    from {{ ref('stg_lake__products') }} as products
    inner join changed on products.product_id = changed.product_id
    left join gone on products.product_id = gone.belongs_to
),

versions as (
    select
        {{ surrogate_key('product_id', 'effective_at') }} as product_key,
        product_id,
        category_path,
        split_part(category_path, '/', 1) as category,
        product_name,
        price_minor,
        currency,
        restock_level,
        restocked_at,
        is_active,
        effective_at as valid_from,
        lead(effective_at) over (partition by product_id order by effective_at, sequence) as valid_to,
        -- facts may fall to any version of an owner one of whose versions came, changed or went
        greatest(
            max(published_batch) over (partition by product_id),
            max(gone_batch) over (partition by product_id)
        ) as published_batch
    from products
)

select
    *,
    valid_to is null as is_current
from versions
-- of versions of one instant, the last by sequence
where valid_to is null or valid_to > valid_from
