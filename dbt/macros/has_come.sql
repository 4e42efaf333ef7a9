{% macro has_come(date) -%}
    {#- whether a day has come: a record whose clock was ahead is not what today is counted from, and what it tells of
        is 0 days ago. In `where`, so that an index gives the last such day -#}
    {{ date }} <= {{ shop_date('now()') }}
{%- endmacro %}
