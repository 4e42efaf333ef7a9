"""Contract → Spark: the schema, the shape of a record's JSON, and the reasons to refuse one.

`from_json` alone notices a wrong type and nothing else, and reads a number as text in silence. So
nearly every record is held against one pattern of its whole text (`plain_pattern`), which costs a
quarter of reading its structure. A text that differs may still keep the contract, in another order of
fields or with spaces: its structure is read by Spark (`schema_of_variant`), field by field, nested
ones included. What neither can say (laws, some ranges) are conditions below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from data_platform_core.contracts import Record
from data_platform_core.contracts.base import INSTANT_PATTERN
from data_platform_core.derive.fields import FieldSpec, fields_of, stored_fields_of

_VARIANT = {"text": "STRING", "integer": "BIGINT", "boolean": "BOOLEAN", "instant": "STRING"}
_JSON = {"text": "string", "integer": "bigint", "boolean": "boolean", "instant": "string"}
_TABLE = {"text": "string", "integer": "bigint", "boolean": "boolean", "instant": "timestamp"}
_END = r"(?![\s\S])"
"""The end of a text, in Java and in Python: their `$` would let the end of a line pass before it."""


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
    refusals = [refusal for field in stored_fields_of(contract) for refusal in _of_field(field, field.name)]
    for law in contract.laws:
        refusals.append(Refusal(f"law_broken:{law.name}", f"not ({law.spark_sql})"))
    return refusals


def values_left_open(contract: type[Record]) -> list[Refusal]:
    """Those of `value_refusals` that a text which matches `plain_pattern` can still have."""
    closed = {name for field in fields_of(contract) for name in _closed(field, field.name)}
    return [refusal for refusal in value_refusals(contract) if refusal.reason.rpartition(":")[2] not in closed]


def plain_pattern(contract: type[Record]) -> str:
    """The pattern of a record's text as our producer spells it: fields in order, no spaces, no escapes.

    A text that matches is accepted but for `values_left_open`.
    """
    return f"^{_plain_object(fields_of(contract))}{_END}"


def _plain_object(fields: tuple[FieldSpec, ...]) -> str:
    return r"\{" + ",".join(f'"{field.name}":{_plain(field)}' for field in fields) + r"\}"


# the calendar but for 29 February, which is left to Spark
_DAY = "(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_PLAIN_INSTANT = f"(?!0000)[0-9]{{4}}-{_DAY}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]" + r"\.[0-9]{6}Z"
_PLAIN_CLASSES = {"[!-~]": r"[!#-\[\]-~]"}
_SAFE_PATTERN = re.compile(r"^\^(?:[A-Za-z_/:?*+(){}0-9-]|\[(?:[a-z0-9A-Z_]-?)+\]|\[!-~\])*\$$")


def _plain(field: FieldSpec) -> str:
    if field.kind == "parts":
        low, high = max(field.min_length or 0, 1), field.max_length or 2**15
        part = _plain_object(field.parts)
        return rf"\[{part}(?:,{part}){{{low - 1},{high - 1}}}\]"
    if field.choices:
        words = [f'"{re.escape(c)}"' if isinstance(c, str) else str(c) for c in field.choices]
        found = "|".join(words)
    elif field.kind == "text":
        found = f'"{_plain_text(field)}"'
    elif field.kind == "instant":
        found = f'"{_PLAIN_INSTANT}"'
    elif field.kind == "boolean":
        found = "true|false"
    else:
        found = _plain_integer(field)
    return f"(?:null|{found})" if field.is_nullable else f"(?:{found})"


def _plain_text(field: FieldSpec) -> str:
    """A text without quotes, escapes and control characters; with its own pattern where that is sure to hold none."""
    length = rf'(?=[^"]{{{field.min_length or 0},{field.max_length or ""}}}")'
    if not (field.pattern and _SAFE_PATTERN.match(field.pattern)):
        return length + r'[^"\\\x00-\x1f]*'
    own = field.pattern.removeprefix("^").removesuffix("$")
    for wide, narrow in _PLAIN_CLASSES.items():
        own = own.replace(wide, narrow)
    return (length if field.min_length is not None or field.max_length is not None else "") + own


def _plain_integer(field: FieldSpec) -> str:
    """Integers of up to 18 digits; bounds of 0 or 1 and a power of ten are said exactly."""
    low, high = field.minimum, field.maximum
    if low in (0, 1) and high is not None and _is_power_of_ten(high):
        exact = f"[1-9][0-9]{{0,{len(str(high)) - 2}}}|{high}"
        return f"0|{exact}" if low == 0 else exact
    return "0|[1-9][0-9]{0,17}" if low is not None and low >= 0 else "0|-?[1-9][0-9]{0,17}"


def _is_power_of_ten(number: int) -> bool:
    return (
        number >= 10 and set(str(number)) == {"0", "1"} and str(number).startswith("1") and str(number).count("1") == 1
    )


def _closed(field: FieldSpec, name: str) -> list[str]:
    """The names of fields whose values `plain_pattern` says exactly."""
    if field.kind == "parts":
        return [name, *(found for part in field.parts for found in _closed(part, f"{name}.{part.name}"))]
    if field.kind == "integer" and not field.choices:
        low, high = field.minimum, field.maximum
        is_exact = low in (0, 1) and high is not None and _is_power_of_ten(high)
        return [name] if is_exact or (low == 0 and (high or 0) >= 10**18) else []
    if field.kind == "text" and not field.choices and field.pattern:
        return [name] if _SAFE_PATTERN.match(field.pattern) else []
    return [name]


def _of_field(field: FieldSpec, value: str) -> list[Refusal]:
    found: list[Refusal] = []
    if field.kind == "instant":
        found.append(
            Refusal(
                f"not_an_instant:{field.name}",
                # a year that Spark knows and Python and PostgreSQL do not
                f"not {value} rlike {_quoted(_whole(INSTANT_PATTERN))} or {value} like '0000%'"
                f" or try_to_timestamp({value}) is null",
            )
        )
    if field.kind == "text" and not field.choices:
        # what PostgreSQL cannot hold; a plain text has none
        found.append(Refusal(f"bad_format:{field.name}", f"{value} rlike r'\\x00'"))
    if field.pattern:
        found.append(Refusal(f"bad_format:{field.name}", f"not {value} rlike {_quoted(_whole(field.pattern))}"))
    if field.choices:
        listed = ", ".join(_quoted(c) if isinstance(c, str) else str(c) for c in field.choices)
        found.append(Refusal(f"unknown_value:{field.name}", f"{value} not in ({listed})"))
    if field.minimum is not None or field.maximum is not None:
        low = field.minimum if field.minimum is not None else -(2**63)
        high = field.maximum if field.maximum is not None else 2**63 - 1
        kind = "unknown_version" if field.name == "schema_version" else "out_of_range"
        found.append(Refusal(f"{kind}:{field.name}", f"{value} not between {low} and {high}"))
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


def _whole(pattern: str) -> str:
    return pattern.removesuffix("$") + _END


def _quoted(text: str) -> str:
    # a raw literal: Spark SQL would take the backslashes of a pattern away
    return f"r'{text}'"


def canonical_spark(contract: type[Record]) -> str:
    """The canonical form of a silver row as Spark SQL; see `derive.canonical`."""
    return "concat(" + ", ".join(_canonical(field, field.name) for field in fields_of(contract)) + ")"


def _canonical(field: FieldSpec, value: str) -> str:
    if field.kind == "parts":
        items = ", ".join(_canonical(part, f"part.{part.name}") for part in field.parts)
        return f"concat(size({value}), '[', array_join(transform({value}, part -> concat({items})), ''), ']')"
    if field.kind == "instant":
        text = f"cast(unix_micros({value}) as string)"
    elif field.kind == "boolean":
        text = f"if({value}, 't', 'f')"
    else:
        text = f"cast({value} as string)"
    netstring = f"concat(octet_length({text}), ':', {text})"
    return f"coalesce({netstring}, '-')" if field.is_nullable else netstring
