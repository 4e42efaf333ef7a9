with source as (
    select * from {{ source('lake', 'events') }}
),

renamed as (
    select
        event_id,
        event_type,
        visitor_id,
        customer_id,
        session_id,
        page_path,
        referrer,
        device,
        utm_source,
        utm_medium,
        utm_campaign,
        product_id,
        order_id,
        occurred_at,
        sequence,
        published_batch
    from source
)

select * from renamed
