"""Contract → Arrow schema: the columns that the generator makes and the publish carries."""

from __future__ import annotations

import pyarrow as pa

from data_platform_core.contracts import Record
from data_platform_core.derive.fields import FieldSpec, fields_of

INSTANT = pa.timestamp("us", tz="UTC")
_TYPES = {"text": pa.string(), "integer": pa.int64(), "boolean": pa.bool_(), "instant": INSTANT}


def arrow_schema(contract: type[Record]) -> pa.Schema:
    """The Arrow schema of a contract, in canonical order."""
    return pa.schema([_arrow(field) for field in fields_of(contract)])


def _arrow(field: FieldSpec) -> pa.Field:
    if field.kind == "parts":
        kind = pa.list_(pa.struct([_arrow(part) for part in field.parts]))
    else:
        kind = _TYPES[field.kind]
    return pa.field(field.name, kind, nullable=field.is_nullable)
