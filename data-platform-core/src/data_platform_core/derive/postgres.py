"""Contract → the table in PostgreSQL's schema `lake`."""

from __future__ import annotations

from data_platform_core.contracts import Record
from data_platform_core.derive.fields import published_fields_of

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


def published_columns(contract: type[Record]) -> dict[str, str]:
    """The columns of the published table of a contract, in order: by name, the type and whether it may be null."""
    columns = {
        field.name: f"{_TYPES[field.kind]}{'' if field.is_nullable else ' not null'}"
        for field in published_fields_of(contract)
    }
    return columns | {name: f"{kind} not null" for name, kind, _ in PUBLISHED_COLUMNS}


def create_table(contract: type[Record]) -> str:
    """The statement that creates the published table of a contract.

    It has one partition, for everything, which a load of the whole puts another one in place of: what refers to the
    table stays as it is, and readers see the one or the other.
    """
    columns = [f"{name} {kind}" for name, kind in published_columns(contract).items()]
    columns.append(_key(contract))
    return (
        f"create table if not exists lake.{contract.entity} (\n  "
        + ",\n  ".join(columns)
        + f"\n) partition by list ({contract.key[0]})"
    )


def create_first_partition(contract: type[Record]) -> str:
    """The statement that gives a published table its partition, where it has none."""
    first = partition_of(contract, 0)
    return (
        f"do $$ begin if not exists (select from pg_inherits where inhparent = 'lake.{contract.entity}'::regclass) then"
        f" create table {first} partition of lake.{contract.entity} default;"
        f" create index on {first} (published_batch) where published_batch > 0; end if; end $$"
    )


def partition_of(contract: type[Record], batch: int) -> str:
    """The name of the partition that a publish of the whole fills."""
    return f"lake.{contract.entity}_from_{batch}"


def _key(contract: type[Record]) -> str:
    return f"primary key ({', '.join(contract.key)})"
