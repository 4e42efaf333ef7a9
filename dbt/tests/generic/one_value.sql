{% test one_value(model, column_name) %}
    select {{ column_name }}
    from {{ model }}
    group by {{ column_name }}
    order by count(*) desc
    offset 1
{% endtest %}
