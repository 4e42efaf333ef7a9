{% macro surrogate_key(natural_key, valid_from) -%}
    {#- the key of a version: a hash of whose version it is and from when on it is valid -#}
    md5({{ natural_key }} || '/' || (extract(epoch from {{ valid_from }}) * 1000000)::bigint)::uuid
{%- endmacro %}
