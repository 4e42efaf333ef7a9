{% macro since_last_batch() -%}
    {#- increments follow the publish, never event time: a late record is taken whenever it comes -#}
    {% if is_incremental() %}
    where published_batch > (select coalesce(max(held.published_batch), 0) from {{ this }} as held)
    {% endif %}
{%- endmacro %}
