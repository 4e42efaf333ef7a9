"""Contract → the table in PostgreSQL's schema `lake`."""

from __future__ import annotations

from data_platform_core.contracts import Record
from data_platform_core.derive.fields import fields_of

_TYPES = {
    "text": "text",
    "integer": "bigint",
    "boolean": "boolean",
    "instant": "timestamptz",
    "parts": "jsonb",
}

PUBLISHED_COLUMNS = (
    ("published_batch", "bigint", "The publish that brought the row; increments follow it."),
    ("published_at", "timestamptz", "When that publish was committed."),
)
"""What the publish adds to a contract's columns: name, type, description."""


def create_table(contract: type[Record]) -> str:
    """The statement that creates the published table of a contract."""
    columns = [
        f"{field.name} {_TYPES[field.kind]}{'' if field.is_nullable else ' not null'}" for field in fields_of(contract)
    ]
    columns += [f"{name} {kind} not null" for name, kind, _ in PUBLISHED_COLUMNS]
    columns.append(f"primary key ({', '.join(contract.key)})")
    return f"create table if not exists lake.{contract.entity} (\n  " + ",\n  ".join(columns) + "\n)"


def create_batch_index(contract: type[Record]) -> str:
    """The index that increments downstream read by."""
    return (
        f"create index if not exists {contract.entity}_published_batch"
        f" on lake.{contract.entity} using brin (published_batch)"
    )
