{#- How far each model has each entity stands in `ops.model_marks`, per relation. A model notes how far its sources
    are before it reads, and makes that its mark in the transaction of its rows: what came while it ran is taken
    again. Increments follow the publish, never event time: a late record is taken whenever it comes. -#}

{% macro begin_increment() -%}
    {#- a model is never further than what it is built on, which may know nothing of an entity yet -#}
    {%- set upstream = [] -%}
    {%- if execute -%}
        {%- for id in model.depends_on.nodes if id in graph.nodes and graph.nodes[id].config.materialized != 'view' -%}
            {%- do upstream.append(graph.nodes[id].relation_name) -%}
        {%- endfor -%}
    {%- endif -%}
    insert into ops.model_marks as held (model, entity, published_batch, next_batch)
    select '{{ this }}', published.entity, 0, least(
        published.published_batch
        {%- for parent in upstream %},
        coalesce((
            select marks.published_batch from ops.model_marks as marks
            where marks.model = '{{ parent }}' and marks.entity = published.entity
        ), 0)
        {%- endfor %}
    )
    from ops.publish_marks as published
    on conflict (model, entity) do update set next_batch = excluded.next_batch
{%- endmacro %}

{% macro end_increment() -%}
    update ops.model_marks set published_batch = next_batch where model = '{{ this }}'
{%- endmacro %}

{% macro last_batch(entity) -%}
    {#- as a number: of a subquery's the planner expects a third of all rows to be newer, and reads all of them -#}
    {%- set mark -%}
    select coalesce(max(mark.published_batch), 0) from ops.model_marks as mark
    where mark.model = '{{ this }}' and mark.entity = '{{ entity }}'
    {%- endset -%}
    {{ run_query(mark).rows[0][0] if execute else 0 }}
{%- endmacro %}

{% macro is_new(entity, alias) -%}
    {#- whether a row came since this model was built last; all rows where it is built from nothing -#}
    {% if is_incremental() %}{{ alias }}.published_batch > {{ last_batch(entity) }}{% else %}true{% endif %}
{%- endmacro %}

{% macro deleted_since(entity) -%}
    {#- the `first_key`, `second_key` or `belongs_to`, named after the entity, of what silver gave up since this model
        was built last -#}
    select gone.{{ varargs | join(', gone.') }} from {{ ref('stg_lake__deleted_keys') }} as gone
    where gone.entity = '{{ entity }}' and {{ is_new(entity, 'gone') }}
{%- endmacro %}

{% macro last_gone(entity) -%}
    {#- of each whole that silver gave up a part of, the newest publish that took one out -#}
    select gone.belongs_to, max(gone.published_batch) as published_batch
    from {{ ref('stg_lake__deleted_keys') }} as gone
    where gone.entity = '{{ entity }}'
    group by gone.belongs_to
{%- endmacro %}

{% macro delete_gone(entity, key) -%}
    {#- for a pre-hook: takes out the rows of what silver gave up, whose key is that named after it -#}
    {% if is_incremental() %}
    delete from {{ this }} where {{ key }} in ({{ deleted_since(entity, *varargs) }})
    {% endif %}
{%- endmacro %}
