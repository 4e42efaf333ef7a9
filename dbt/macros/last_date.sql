{% macro last_date(column) -%}
    {#- the last of some days that has come: a record whose clock was ahead is not what today is counted from -#}
    max({{ column }}) filter (where {{ column }} <= {{ shop_date('now()') }})
{%- endmacro %}
