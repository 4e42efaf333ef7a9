"""Publish: silver → PostgreSQL schema `lake`, by Delta's change feed, exactly once.

A run fixes, per entity, the versions (from, to] it takes, under its run id, before it reads; a retry
or a cleared task takes the same ones. Rows and the mark that says how far the entity is published
commit in one transaction, under a lock, so that runs side by side, killed or repeated, end the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl
import psycopg
import pyarrow as pa
from deltalake import DeltaTable
from pgpq import ArrowToPostgresBinaryEncoder

from data_platform_core.contracts import CONTRACTS, Record
from data_platform_core.derive.fields import fields_of
from data_platform_core.errors import ComponentFailed, CrmError
from data_platform_core.layers import published_table
from data_platform_core.ledger.stores import open_table
from data_platform_core.settings import Settings
from data_platform_core.warehouse import connect


@dataclass(frozen=True)
class Window:
    """The versions of an entity's silver table that a run takes: (from, to]."""

    entity: str
    table_id: str
    from_version: int
    to_version: int


@dataclass(frozen=True)
class Published:
    """What a run did with an entity: rows changed in PostgreSQL; 0 where all was there already."""

    window: Window
    rows_read: int
    rows_written: int


def publish(settings: Settings, run_id: str, entities: Iterable[str]) -> list[Published]:
    """Publish what silver has of these entities under a run id.

    Raises:
        ComponentFailed: the lake or the warehouse is out of reach, or went away in the middle.
        CrmError: a silver table that was published before is gone, or was replaced by another one.
    """
    try:
        with connect(settings) as connection:
            done = (_publish_entity(connection, settings, run_id, entity) for entity in entities)
            return [published for published in done if published is not None]
    except psycopg.Error as error:
        raise ComponentFailed(
            f"the warehouse stopped the publish: {str(error).strip()}; nothing of the entity at hand was written, "
            "and the same run id takes the same versions again"
        ) from None


def _publish_entity(connection: psycopg.Connection, settings: Settings, run_id: str, entity: str) -> Published | None:
    table = open_table(settings, "silver", entity)
    if table is None:
        _check_never_published(connection, entity)
        return None  # a stack so young that the stream has not created the table
    window = fix_window(connection, table, run_id, entity)
    changes = changes_of(table, window, CONTRACTS[entity])
    written = apply(connection, run_id, window, changes)
    return Published(window, len(changes), written)


def _check_never_published(connection: psycopg.Connection, entity: str) -> None:
    if connection.execute("select 1 from ops.publish_marks where entity = %s", (entity,)).fetchone():
        raise CrmError(
            f"the silver table of {entity} was published before and is gone: restore it, or begin anew with `crm reset`"
        )


def fix_window(connection: psycopg.Connection, table: DeltaTable, run_id: str, entity: str) -> Window:
    """The versions that this run takes; fixed at its first call, the same ever after.

    Raises:
        CrmError: the marks belong to another table at this place.
    """
    table_id = str(table.metadata().id)
    with connection.transaction():
        mark = connection.execute(
            "select table_id, version from ops.publish_marks where entity = %s", (entity,)
        ).fetchone()
        if mark and mark[0] != table_id:
            raise CrmError(
                f"the silver table of {entity} is not the one published before (it was made anew): "
                "publish into a new warehouse, or restore the table; `crm reset` begins anew with both"
            )
        connection.execute(
            "insert into ops.publish_runs (run_id, entity, table_id, from_version, to_version)"
            " values (%s, %s, %s, %s, %s) on conflict do nothing",
            (run_id, entity, table_id, mark[1] if mark else -1, table.version()),
        )
        fixed = connection.execute(
            "select table_id, from_version, to_version from ops.publish_runs where run_id = %s and entity = %s",
            (run_id, entity),
        ).fetchone()
    assert fixed is not None
    return Window(entity, *fixed)


def changes_of(table: DeltaTable, window: Window, contract: type[Record]) -> pl.DataFrame:
    """The last change of every key within the window, with the column `is_deleted`."""
    names = [field.name for field in fields_of(contract)]
    if window.to_version <= window.from_version:
        return pl.DataFrame(schema=dict.fromkeys([*names, "is_deleted"], pl.Null))
    feed = table.load_cdf(starting_version=window.from_version + 1, ending_version=window.to_version)
    frame = pl.from_arrow(pa.table(feed))
    assert isinstance(frame, pl.DataFrame)
    return (
        frame.filter(pl.col("_change_type") != "update_preimage")
        .sort("_commit_version", maintain_order=True)
        .unique(list(contract.key), keep="last", maintain_order=True)
        .with_columns(is_deleted=pl.col("_change_type") == "delete")
        .select(*names, "is_deleted")
    )


def apply(connection: psycopg.Connection, run_id: str, window: Window, changes: pl.DataFrame) -> int:
    """Bring changes and mark into PostgreSQL in one transaction; returns how many rows changed.

    Where a later run has published these versions already, nothing is done: replaying older changes
    over newer ones could bring back what was deleted since.
    """
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext('crm.publish.' || %s))", (window.entity,))
        mark = connection.execute(
            "select version from ops.publish_marks where entity = %s", (window.entity,)
        ).fetchone()
        if mark and mark[0] >= window.to_version:
            return 0
        row = connection.execute("select nextval('ops.published_batch')").fetchone()
        assert row is not None
        batch = int(row[0])
        written = _write(connection, window.entity, batch, changes) if len(changes) else 0
        connection.execute(
            "insert into ops.publish_marks (entity, table_id, version, published_batch) values (%s, %s, %s, %s)"
            " on conflict (entity) do update"
            " set version = excluded.version, published_batch = excluded.published_batch",
            (window.entity, window.table_id, window.to_version, batch),
        )
        connection.execute(
            "update ops.publish_runs set published_batch = %s, rows_read = %s, rows_written = %s, published_at = now()"
            " where run_id = %s and entity = %s",
            (batch, len(changes), written, run_id, window.entity),
        )
    return written


def _write(connection: psycopg.Connection, entity: str, batch: int, changes: pl.DataFrame) -> int:
    contract = CONTRACTS[entity]
    fields = fields_of(contract)
    target = published_table(entity)
    key = ", ".join(contract.key)
    names = [field.name for field in fields]
    nested = [field.name for field in fields if field.kind == "parts"]
    # a nested column crosses as JSON text, wrapped into an object, since Polars encodes structs only
    staged = changes.with_columns(pl.struct(name).struct.json_encode().alias(name) for name in nested)
    _copy(connection, staged, {field.name: field.kind for field in fields})
    values = ", ".join(f"(s.{name}::jsonb) -> '{name}'" if name in nested else f"s.{name}" for name in names)
    columns = ", ".join(names)
    others = [name for name in names if name not in contract.key]
    held = ", ".join(f"held.{name}" for name in others)
    new = ", ".join(f"excluded.{name}" for name in others)
    assignments = ", ".join(f"{name} = excluded.{name}" for name in [*others, "published_batch", "published_at"])
    deleted = connection.execute(
        f"delete from {target} as held using stage as s where s.is_deleted and ({key_of('held', contract)})"  # type: ignore[arg-type]
        f" = ({key_of('s', contract)})"
    ).rowcount
    upserted = connection.execute(
        f"insert into {target} as held ({columns}, published_batch, published_at)"  # type: ignore[arg-type]
        f" select {values}, {batch}, now() from stage as s where not s.is_deleted"
        f" on conflict ({key}) do update set {assignments} where ({held}) is distinct from ({new})"
    ).rowcount
    return int(deleted + upserted)


def key_of(alias: str, contract: type[Record]) -> str:
    """The key columns of a contract behind a table's alias."""
    return ", ".join(f"{alias}.{name}" for name in contract.key)


_STAGE_TYPES = {"text": "text", "integer": "bigint", "boolean": "boolean", "instant": "timestamptz", "parts": "text"}


def _copy(connection: psycopg.Connection, rows: pl.DataFrame, kinds: dict[str, str]) -> None:
    """COPY rows into the temporary table `stage`, in PostgreSQL's binary format."""
    columns = ", ".join(f"{name} {_STAGE_TYPES[kind]}" for name, kind in kinds.items())
    connection.execute("drop table if exists stage")
    connection.execute(f"create temporary table stage ({columns}, is_deleted boolean) on commit drop")  # type: ignore[arg-type]
    table = _plain_strings(rows.to_arrow())
    encoder = ArrowToPostgresBinaryEncoder(table.schema)
    with connection.cursor() as cursor, cursor.copy("copy stage from stdin with (format binary)") as copy:
        copy.write(encoder.write_header())
        for part in table.to_batches(max_chunksize=64_000):
            copy.write(encoder.write_batch(part))
        copy.write(encoder.finish())


def _plain_strings(table: pa.Table) -> pa.Table:
    """Strings as Arrow's plain ones: Polars gives views, which the encoder does not know."""
    is_text = pa.types.is_large_string, pa.types.is_string_view
    fields = [
        pa.field(field.name, pa.string() if any(check(field.type) for check in is_text) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))
