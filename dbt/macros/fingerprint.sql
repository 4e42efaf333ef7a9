{% macro fingerprint(customer_id) -%}
    {#- how a customer who may have been forgotten is named -#}
    encode(sha256(convert_to({{ customer_id }}, 'UTF8')), 'hex')
{%- endmacro %}
