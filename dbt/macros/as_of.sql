{% macro as_of(dimension, key, fact, instant) -%}
    {#- joins a fact to the version of a dimension that was valid at its time; facts come by this in one way only -#}
    {{ fact }}.{{ key }} = {{ dimension }}.{{ key }}
    and {{ fact }}.{{ instant }} >= {{ dimension }}.valid_from
    and {{ fact }}.{{ instant }} < coalesce({{ dimension }}.valid_to, 'infinity')
{%- endmacro %}

{% macro described_anew(unique_key, dimension, entity, key, version_key, instant) -%}
    {#- the facts of this model that a version, published since it was built last, says otherwise -#}
    select facts.{{ unique_key }}
    from {{ this }} as facts
    inner join {{ dimension }} as versions
        on
            {{ as_of('versions', key, 'facts', instant) }}
            and facts.{{ version_key }} is distinct from versions.{{ version_key }}
    where {{ is_new(entity, 'versions') }}
{%- endmacro %}
