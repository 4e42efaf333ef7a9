select
    started_date,
    channel,
    device,
    count(*) as session_count,
    count(*) filter (where has_product_view) as product_view_count,
    count(*) filter (where has_cart) as cart_count,
    count(*) filter (where has_checkout) as checkout_count,
    count(*) filter (where has_purchase) as purchase_count
from {{ ref('fct_sessions') }}
group by started_date, channel, device
