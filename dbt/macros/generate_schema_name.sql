{% macro generate_schema_name(custom_schema_name, node) -%}
    {#- schemas are named as they are configured, without the target's prefix -#}
    {{ custom_schema_name | trim if custom_schema_name else target.schema }}
{%- endmacro %}
