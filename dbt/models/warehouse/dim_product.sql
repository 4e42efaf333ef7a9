with products as (
    select * from {{ ref('stg_lake__products') }}
),

versions as (
    select
        md5(product_id || '/' || sequence) as product_key,
        product_id,
        category_path,
        split_part(category_path, '/', 1) as category,
        product_name,
        price_minor,
        currency,
        restock_level,
        restocked_at,
        is_active,
        occurred_at as valid_from,
        lead(occurred_at) over (partition by product_id order by sequence) as valid_to,
        published_batch
    from products
)

select
    *,
    valid_to is null as is_current
from versions
