"""Contract → Spark: the schema, the shape of a record's JSON, and the reasons to refuse one.

`from_json` alone notices a wrong type and nothing else, and reads a number as text in silence. So a
record's structure is first read by Spark itself (`schema_of_variant`) and held against one pattern
made from the contract: a missing field, an unknown one and a wrong type all differ from it, nested
ones included. What a structure cannot say (ranges, patterns, choices, laws) are conditions below.
"""

from __future__ import annotations

from dataclasses import dataclass

from data_platform_core.contracts import Record
from data_platform_core.contracts.base import INSTANT_PATTERN
from data_platform_core.derive.fields import FieldSpec, fields_of

_VARIANT = {"text": "STRING", "integer": "BIGINT", "boolean": "BOOLEAN", "instant": "STRING"}
_JSON = {"text": "string", "integer": "bigint", "boolean": "boolean", "instant": "string"}
_TABLE = {"text": "string", "integer": "bigint", "boolean": "boolean", "instant": "timestamp"}


@dataclass(frozen=True)
class Refusal:
    """A reason to refuse a record: the reason, and the Spark SQL condition under which it holds."""

    reason: str
    condition: str


def json_ddl(contract: type[Record]) -> str:
    """The schema for `from_json`: instants still as text."""
    return ", ".join(f"{f.name} {_ddl(f, _JSON)}" for f in fields_of(contract))


def table_ddl(contract: type[Record]) -> str:
    """The columns of the silver table."""
    return ", ".join(f"{f.name} {_ddl(f, _TABLE)}{'' if f.is_nullable else ' NOT NULL'}" for f in fields_of(contract))


def _ddl(field: FieldSpec, types: dict[str, str]) -> str:
    if field.kind == "parts":
        return "array<struct<" + ", ".join(f"{p.name}: {_ddl(p, types)}" for p in field.parts) + ">>"
    return types[field.kind]


def shape_pattern(contract: type[Record]) -> str:
    """The pattern that `schema_of_variant` of every well-formed record matches."""
    return f"^{_shape_of(fields_of(contract))}$"


def _shape_of(fields: tuple[FieldSpec, ...]) -> str:
    ordered = sorted(fields, key=lambda field: field.name)  # a variant keeps its fields by name
    return "OBJECT<" + ", ".join(f"{field.name}: {field_shape(field)}" for field in ordered) + ">"


def field_shape(field: FieldSpec) -> str:
    """The pattern of one field within `schema_of_variant`."""
    if field.kind == "parts":
        return f"ARRAY<{_shape_of(field.parts)}>"
    shape = _VARIANT[field.kind]
    return f"({shape}|VOID)" if field.is_nullable else shape


def value_refusals(contract: type[Record]) -> list[Refusal]:
    """The conditions on values, over the columns of `json_ddl`; the first that holds is the reason."""
    refusals = [refusal for field in fields_of(contract) for refusal in _of_field(field, field.name)]
    for law in contract.laws:
        refusals.append(Refusal(f"law_broken:{law.name}", f"not ({law.spark_sql})"))
    return refusals


def _of_field(field: FieldSpec, value: str) -> list[Refusal]:
    found: list[Refusal] = []
    if field.kind == "instant":
        found.append(
            Refusal(
                f"not_an_instant:{field.name}",
                f"not {value} rlike {_quoted(INSTANT_PATTERN)} or try_to_timestamp({value}) is null",
            )
        )
    if field.pattern:
        found.append(Refusal(f"bad_format:{field.name}", f"not {value} rlike {_quoted(field.pattern)}"))
    if field.choices:
        listed = ", ".join(_quoted(c) if isinstance(c, str) else str(c) for c in field.choices)
        kind = "unknown_version" if field.name == "schema_version" else "unknown_value"
        found.append(Refusal(f"{kind}:{field.name}", f"{value} not in ({listed})"))
    if field.minimum is not None or field.maximum is not None:
        low = field.minimum if field.minimum is not None else -(2**63)
        high = field.maximum if field.maximum is not None else 2**63 - 1
        found.append(Refusal(f"out_of_range:{field.name}", f"{value} not between {low} and {high}"))
    if field.min_length is not None or field.max_length is not None:
        size = f"size({value})" if field.kind == "parts" else f"char_length({value})"
        low, high = field.min_length or 0, field.max_length or 2**31 - 1
        found.append(Refusal(f"out_of_range:{field.name}", f"{size} not between {low} and {high}"))
    for part in field.parts:
        for refusal in _of_field(part, f"part.{part.name}"):
            found.append(
                Refusal(
                    refusal.reason.replace(":", f":{field.name}."),
                    f"exists({value}, part -> {refusal.condition})",
                )
            )
    return found


def _quoted(text: str) -> str:
    # a raw literal: Spark SQL would take the backslashes of a pattern away
    return f"r'{text}'"
