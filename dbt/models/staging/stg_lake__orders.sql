with source as (
    select * from {{ source('lake', 'orders') }}
),

renamed as (
    select
        order_id,
        order_event_id,
        customer_id,
        status as order_status,
        ordered_at,
        lines as order_lines,
        discount_minor,
        total_minor,
        currency,
        payment_method,
        occurred_at,
        sequence,
        published_batch
    from source
)

select * from renamed
