{% macro as_of(dimension, key, fact, instant) -%}
    {#- joins a fact to the version of a dimension that was valid at its time; facts come by this in one way only -#}
    {{ fact }}.{{ key }} = {{ dimension }}.{{ key }}
    and {{ fact }}.{{ instant }} >= {{ dimension }}.valid_from
    and {{ fact }}.{{ instant }} < coalesce({{ dimension }}.valid_to, 'infinity')
{%- endmacro %}

{% macro described_anew(fact_key, owner, instant, copied) -%}
    {#- the facts of this model that their customer or product, a version of which was published, changed or taken out
        since it was built last, now says otherwise, by its key or by a column that they copied; and those that it
        says nothing of any more -#}
    {%- set said = [owner ~ '_key'] + copied -%}
    {%- set entity = {'customer': 'profiles', 'product': 'products'}[owner] -%}
    {%- set named_gone = {'customer': fingerprint('facts.customer_id'), 'product': 'facts.product_id'}[owner] -%}
    select facts.{{ fact_key }}
    from {{ this }} as facts
    inner join {{ ref('dim_' ~ owner) }} as versions
        on
            {{ as_of('versions', owner ~ '_id', 'facts', instant) }}
            and (facts.{{ said | join(', facts.') }}) is distinct from (versions.{{ said | join(', versions.') }})
    where {{ is_new(entity, 'versions') }}
    union
    -- versions follow each other without a gap: what has none is before the first
    select facts.{{ fact_key }}
    from {{ this }} as facts
    inner join (
        select
            versions.{{ owner }}_id,
            min(versions.valid_from) as begins_at
        from {{ ref('dim_' ~ owner) }} as versions
        where {{ is_new(entity, 'versions') }}
        group by versions.{{ owner }}_id
    ) as firsts
        on facts.{{ owner }}_id = firsts.{{ owner }}_id and facts.{{ instant }} < firsts.begins_at
    where facts.{{ owner }}_key is not null
    union
    select facts.{{ fact_key }}
    from {{ this }} as facts
    where
        -- of the owners alone: by the key the planner expects half of all facts, and reads the warehouse for them
        {{ named_gone }} in ({{ deleted_since(entity, 'belongs_to') }})
        and facts.{{ owner }}_key is not null
        and not exists (
            select 1 from {{ ref('dim_' ~ owner) }} as versions
            where versions.{{ owner }}_key = facts.{{ owner }}_key
        )
{%- endmacro %}

{% macro to_remake(fact_key, parts, entity, owner, instant, copied=[]) -%}
    {#- the facts that sum up parts which came or went, or that are described anew: they are made again, whole -#}
    select parts.{{ fact_key }}
    from {{ parts }} as parts
    where {{ is_new(entity, 'parts') }}
    union
    {{ deleted_since(entity, 'belongs_to') }}
    {% if is_incremental() %}
    union
    {{ described_anew(fact_key, owner, instant, copied) }}
    {% endif %}
{%- endmacro %}
