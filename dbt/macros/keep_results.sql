{#- Keeps what became of every model and test of a run in `ops.model_results`, under the run id that the caller gave by
    CRM_RUN; `crm models` shows it. -#}

{% macro keep_results(results) -%}
    {#- who uses the marts is no part of a run -#}
    {%- set results = results | rejectattr('node.resource_type', 'equalto', 'exposure') | list -%}
    {%- if execute and results -%}
    insert into ops.model_results (run_id, node, kind, layer, model, status, row_count, seconds, message)
    values
        {%- for result in results %}
        (
            {{ quoted(env_var('CRM_RUN', invocation_id)) }}, {{ quoted(result.node.unique_id) }},
            {{ quoted(result.node.resource_type) }}, {{ quoted(result.node.original_file_path.split('/')[1]) }},
            {{ quoted(model_of(result.node)) }}, {{ quoted(result.status) }},
            {{ result.adapter_response.get('rows_affected', -1) }}, {{ result.execution_time }},
            {{ quoted((result.message or '')[:2000]) }}
        ){{ ',' if not loop.last }}
        {%- endfor %}
    {%- endif -%}
{%- endmacro %}

{% macro model_of(node) -%}
    {#- a model's own name; a test's is that of the model it looks at -#}
    {%- if node.resource_type == 'model' -%} {{ node.name }}
    {%- elif node.resource_type == 'unit_test' -%} {{ graph.nodes[node.tested_node_unique_id].name }}
    {%- elif node.attached_node -%} {{ graph.nodes[node.attached_node].name }}
    {%- else -%} sources
    {%- endif -%}
{%- endmacro %}

{% macro quoted(text) -%}
    '{{ text | string | trim | replace("'", "''") }}'
{%- endmacro %}
