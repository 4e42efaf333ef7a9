{% macro last_date(column) -%}
    {#- the last of some days that has come: a record whose clock was ahead is not what today is counted from, and what
        it tells of is 0 days ago -#}
    max({{ column }}) filter (where {{ column }} <= {{ shop_date('now()') }})
{%- endmacro %}
