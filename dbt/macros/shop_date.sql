{% macro shop_date(instant) -%}
    {#- the shop's day of a point in time -#}
    ({{ instant }} at time zone '{{ env_var("CRM_SHOP_TIME_ZONE", "Asia/Seoul") }}')::date
{%- endmacro %}
