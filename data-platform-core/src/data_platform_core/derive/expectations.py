"""Contract → expectations of the Great Expectations suite that gates a published table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from data_platform_core.contracts import Record
from data_platform_core.derive.fields import FieldSpec, published_fields_of


@dataclass(frozen=True)
class Expectation:
    """An expectation by its Great Expectations name and arguments."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


def expectations_of(contract: type[Record]) -> list[Expectation]:
    """What the contract promises of a table's columns and key.

    Its laws, and what is inside of lists, the stream holds each record against before silver has it.
    """
    found = [expectation for spec in published_fields_of(contract) for expectation in _of_field(spec)]
    if contract.is_master:
        ordered = {"column_A": "occurred_at", "column_B": "effective_at", "or_equal": True}
        found.append(Expectation("expect_column_pair_values_a_to_be_greater_than_b", ordered))
    if len(contract.key) == 1:
        found.append(Expectation("expect_column_values_to_be_unique", {"column": contract.key[0]}))
    else:
        found.append(Expectation("expect_compound_columns_to_be_unique", {"column_list": list(contract.key)}))
    return found


def _of_field(spec: FieldSpec) -> list[Expectation]:
    column = {"column": spec.name}
    found = []
    if not spec.is_nullable:
        found.append(Expectation("expect_column_values_to_not_be_null", column))
    if spec.choices:
        found.append(Expectation("expect_column_values_to_be_in_set", column | {"value_set": list(spec.choices)}))
    if spec.pattern:
        # Python's `$` would let a line's end pass before it; of PostgreSQL, both mean the same
        whole = spec.pattern.removesuffix("$") + r"\Z"
        found.append(Expectation("expect_column_values_to_match_regex", column | {"regex": whole}))
    if spec.kind == "text" and (spec.min_length is not None or spec.max_length is not None):
        bounds = {"min_value": spec.min_length, "max_value": spec.max_length}
        found.append(Expectation("expect_column_value_lengths_to_be_between", column | bounds))
    if spec.kind == "integer" and (spec.minimum is not None or spec.maximum is not None):
        bounds = {"min_value": spec.minimum, "max_value": spec.maximum}
        found.append(Expectation("expect_column_values_to_be_between", column | bounds))
    return found
