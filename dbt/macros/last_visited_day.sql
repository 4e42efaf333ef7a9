{% macro last_visited_day() -%}
    {#- what a mart counts from, so that a rebuild gives the same; where nobody has come yet, today itself -#}
    select coalesce(max(started_date), {{ shop_date('now()') }}) as as_of_date
    from {{ ref('fct_sessions') }}
    where {{ has_come('started_date') }}
{%- endmacro %}
