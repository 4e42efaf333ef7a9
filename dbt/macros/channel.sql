{% macro channel(utm_medium, referrer) -%}
    {#- what brought a visit: its medium where a campaign says so, otherwise whether somebody referred it -#}
    case
        when {{ utm_medium }} is not null then {{ utm_medium }}
        when {{ referrer }} is not null then 'referral'
        else 'direct'
    end
{%- endmacro %}
