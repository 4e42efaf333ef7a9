"""Publish: silver → PostgreSQL schema `lake`, exactly once.

A run fixes, per entity, the versions (from, to] it takes, under its run id, before it reads; a retry
or a cleared task takes the same ones. Rows and the mark that says how far the entity is published
commit in one transaction, under a lock, so that runs side by side, killed or repeated, end the same.

A first load, or a replay of everything, takes silver as it is at `to`: it fills a partition of its own,
which gets its key when it is full and takes the old one's place. Every later run takes what changed, by
Delta's change feed: rows cross into a temporary table and are applied from there as a set. What silver
no longer has leaves its key in `lake.deleted_keys`, which increments downstream follow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl
import psycopg
import pyarrow as pa
from deltalake import DeltaTable
from pgpq import ArrowToPostgresBinaryEncoder
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb

from data_platform_core.contracts import CONTRACTS, Record
from data_platform_core.derive.fields import published_fields_of
from data_platform_core.derive.postgres import partition_of
from data_platform_core.errors import ComponentFailed
from data_platform_core.layers import published_table
from data_platform_core.ledger.stores import open_table, read_errors
from data_platform_core.settings import Settings
from data_platform_core.warehouse import connect
from data_platform_core.windows import (
    Window,
    changes_taken,
    check_never_published,
    fix_window,
    is_published,
    rows_taken,
)

_CHANGE = {"_change_type": "change_type", "_commit_version": "commit_version"}


@dataclass(frozen=True)
class Published:
    """What a run did with an entity: rows read, and rows changed in PostgreSQL; 0 where all was there already."""

    window: Window
    rows_read: int
    rows_written: int


def publish(settings: Settings, run_id: str, entities: Iterable[str], whole: bool = False) -> list[Published]:
    """Publish what silver has of these entities under a run id.

    Args:
        whole: replace what is published by all that silver has, instead of bringing what changed.

    Raises:
        ComponentFailed: the lake or the warehouse is out of reach, or went away in the middle.
        CrmError: a silver table that was published before is gone, or was replaced by another one.
    """
    try:
        with connect(settings) as connection:
            connection.autocommit = True  # what the run takes is fixed for good before it is read
            done = (_publish_entity(connection, settings, run_id, entity, whole) for entity in entities)
            return [published for published in done if published is not None]
    except psycopg.Error as error:
        raise ComponentFailed(
            f"the warehouse stopped the publish: {str(error).strip()}; nothing of the entity at hand was written, "
            "and the same run id takes the same versions again"
        ) from None


def _publish_entity(
    connection: psycopg.Connection, settings: Settings, run_id: str, entity: str, whole: bool
) -> Published | None:
    table = open_table(settings, "silver", entity)
    if table is None:
        check_never_published(connection, entity)
        return None  # a stack so young that the stream has not created the table
    window = fix_window(connection, table, run_id, entity, whole)
    if window.to_version <= window.from_version:
        return Published(window, 0, 0)
    with read_errors(f"silver of {entity}"):
        return apply(connection, run_id, window, table)


def apply(connection: psycopg.Connection, run_id: str, window: Window, table: DeltaTable) -> Published:
    """Bring a window's rows and the mark into PostgreSQL in one transaction.

    Where a later run has published these versions already, nothing is done: replaying older changes
    over newer ones could bring back what was deleted since.
    """
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext('crm.publish.' || %s))", (window.entity,))
        if is_published(connection, run_id, window):
            return Published(window, 0, 0)
        row = connection.execute("select nextval('ops.published_batch')").fetchone()
        assert row is not None
        batch = int(row[0])
        read, written = (_replace if window.is_whole else _change)(connection, window, table, batch)
        if written:  # whoever asks for what came since a mark gets a plan for as many rows as came, also right now
            connection.execute("select lake.take_statistics(%s)", (window.entity,))
        connection.execute(
            "insert into ops.publish_marks (entity, table_id, version, published_batch) values (%s, %s, %s, %s)"
            " on conflict (entity) do update"
            " set version = excluded.version, published_batch = excluded.published_batch",
            (window.entity, window.table_id, window.to_version, batch),
        )
        connection.execute(
            "update ops.publish_runs set published_batch = %s, rows_read = %s, rows_written = %s, published_at = now()"
            " where run_id = %s and entity = %s",
            (batch, read, written, run_id, window.entity),
        )
    return Published(window, read, written)


# --- all of it --------------------------------------------------------------------------------


def _replace(connection: psycopg.Connection, window: Window, table: DeltaTable, batch: int) -> tuple[int, int]:
    """Fill a new partition with silver as it is at the window's end, and put it into the old one's place."""
    contract = CONTRACTS[window.entity]
    old, new = published_table(window.entity), partition_of(contract, batch)
    connection.execute("select lake.new_partition(%s, %s)", (window.entity, batch))
    now = connection.execute("select now()").fetchone()
    assert now is not None
    names = [field.name for field in published_fields_of(contract)]
    brought = [pl.lit(batch, pl.Int64).alias("published_batch"), pl.lit(now[0]).cast(_INSTANT).alias("published_at")]
    frames = (_as_published(frame, contract).select(*names, *brought) for frame in rows_taken(table, window, names))
    read = _copy(connection, new, frames, contract)
    connection.execute(
        f"with gone as (select * from {old} o where not exists"  # type: ignore[arg-type]
        f" (select from {new} n where ({_part_of('n', contract)}) = ({_part_of('o', contract)})))"
        + _note_gone(contract, batch)
    )
    return read, read - _put_in_place(connection, contract, new, batch)


def _put_in_place(connection: psycopg.Connection, contract: type[Record], new: str, batch: int) -> int:
    """Put a filled partition into the old one's place; returns how many rows had to go for another of their key.

    Silver has a key twice only where a producer gave it to two records of different times (decision 0016). The one of
    the highest sequence stays; where they are published one after the other, it is the one that came last.
    """
    statement = "select lake.put_in_place(%s, %s)"
    try:
        with connection.transaction():
            connection.execute(statement, (contract.entity, batch))
        return 0
    except psycopg.errors.UniqueViolation:
        gone = connection.execute(
            f"delete from {new} a using {new} b where ({key_of('a', contract)}) = ({key_of('b', contract)})"  # type: ignore[arg-type]
            " and (a.sequence, a.occurred_at, a.ctid) < (b.sequence, b.occurred_at, b.ctid)"
        ).rowcount
        connection.execute(statement, (contract.entity, batch))
        return int(gone)


# --- what changed -----------------------------------------------------------------------------


def _change(connection: psycopg.Connection, window: Window, table: DeltaTable, batch: int) -> tuple[int, int]:
    """Bring what changed within the window; returns how many changes silver has, and how many rows they changed."""
    contract = CONTRACTS[window.entity]
    names = [field.name for field in published_fields_of(contract)]
    connection.execute("drop table if exists stage")
    connection.execute(
        f"create temporary table stage on commit drop as select {', '.join(names)},"  # type: ignore[arg-type]
        f" null::text as change_type, null::bigint as commit_version from {published_table(window.entity)} with no data"
    )
    frames = (
        _as_published(frame, contract)
        .rename(_CHANGE)
        .select(*names, "change_type", pl.col("commit_version").cast(pl.Int64))
        for frame in changes_taken(table, window)
    )
    read = _copy(connection, "stage", frames, contract)
    return read, _apply_stage(connection, contract, batch)


def _apply_stage(connection: psycopg.Connection, contract: type[Record], batch: int) -> int:
    """Apply the last change of each key that `stage` holds; returns how many rows that changed."""
    target, key = published_table(contract.entity), ", ".join(contract.key)
    # the last change of a key: of one version, what is there after it
    connection.execute(
        f"create temporary table change on commit drop as select distinct on ({key}) * from stage"  # type: ignore[arg-type]
        f" order by {key}, commit_version desc, change_type = 'delete', sequence desc, occurred_at desc"
    )
    deleted = connection.execute(
        f"with gone as (delete from {target} as held using change as s where s.change_type = 'delete'"  # type: ignore[arg-type]
        f" and ({key_of('held', contract)}) = ({key_of('s', contract)}) returning held.*)" + _note_gone(contract, batch)
    ).rowcount
    if contract.whole not in contract.key:
        connection.execute(
            f"with gone as (select held.* from {target} held join change s"  # type: ignore[arg-type]
            f" on ({key_of('held', contract)}) = ({key_of('s', contract)})"
            f" where s.change_type != 'delete' and held.{contract.whole} != s.{contract.whole})"
            + _note_gone(contract, batch)
        )
    names = [field.name for field in published_fields_of(contract)]
    others = [name for name in names if name not in contract.key]
    held = ", ".join(f"held.{name}" for name in others)
    new = ", ".join(f"excluded.{name}" for name in others)
    assignments = ", ".join(f"{name} = excluded.{name}" for name in [*others, "published_batch", "published_at"])
    columns = ", ".join(names)
    upserted = connection.execute(
        f"insert into {target} as held ({columns}, published_batch, published_at)"  # type: ignore[arg-type]
        f" select {columns}, {batch}, now() from change where change_type != 'delete'"
        f" on conflict ({key}) do update set {assignments} where ({held}) is distinct from ({new})"
    ).rowcount
    return int(deleted + upserted)


def _note_gone(contract: type[Record], batch: int) -> str:
    """The end of a statement that keeps the keys of the rows of `gone`, and the whole that each was a part of.

    A row that is a part of another whole now is gone from the one it was in. Customers, who may be forgotten, are
    kept as hashes.
    """

    def text_of(name: str) -> str:
        as_text = f"gone.{name}::text"
        return f"encode(sha256(convert_to({as_text}, 'UTF8')), 'hex')" if name == "customer_id" else as_text

    key = ", ".join(map(text_of, contract.key))
    return (
        " insert into lake.deleted_keys (entity, record_key, belongs_to, published_batch)"
        f" select '{contract.entity}', array[{key}], {text_of(contract.whole)}, {batch} from gone"
        " on conflict (entity, record_key, belongs_to) do update set published_batch = excluded.published_batch"
    )


def key_of(alias: str, contract: type[Record]) -> str:
    """The key columns of a contract behind a table's alias."""
    return ", ".join(f"{alias}.{name}" for name in contract.key)


def _part_of(alias: str, contract: type[Record]) -> str:
    """The columns that say which record it is, and of what whole a part."""
    return ", ".join(f"{alias}.{name}" for name in dict.fromkeys([*contract.key, contract.whole]))


# --- rows on their way ------------------------------------------------------------------------

_INSTANT = pl.Datetime("us", "UTC")


def _as_published(frame: pl.DataFrame, contract: type[Record]) -> pl.DataFrame:
    """Nested columns as JSON text; Polars encodes structs only, so the list is taken out of one of its own."""
    nested = [field.name for field in published_fields_of(contract) if field.kind == "parts"]
    return frame.with_columns(
        pl.struct(name).struct.json_encode().str.slice(len(f'{{"{name}":')).str.head(-1).alias(name) for name in nested
    )


def _copy(connection: psycopg.Connection, target: str, frames: Iterable[pl.DataFrame], contract: type[Record]) -> int:
    """COPY frames into a table that this transaction made, of the same columns; returns how many rows.

    In PostgreSQL's binary format, and frozen, as only such a table may be: who reads it first need not write every
    page again to mark its rows.
    """
    nested = {field.name for field in published_fields_of(contract) if field.kind == "parts"}
    rows, encoder = 0, None
    statement = f"copy {target} from stdin with (format binary, freeze)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:  # type: ignore[arg-type]
        for frame in frames:
            table = _plain_strings(frame.to_arrow())
            if encoder is None:
                kinds = {
                    name: StringEncoderBuilder.new_with_output(table.schema.field(name), Jsonb()) for name in nested
                }
                builders = {
                    name: ArrowToPostgresBinaryEncoder.infer_encoder(table.schema.field(name))
                    for name in table.column_names
                }
                encoder = ArrowToPostgresBinaryEncoder.new_with_encoders(table.schema, builders | kinds)
                copy.write(encoder.write_header())
            # few rows at once: while the next are encoded, the server reads those in the socket's buffer
            for part in table.to_batches(max_chunksize=500):
                copy.write(encoder.write_batch(part))
            rows += len(frame)
        if encoder is not None:
            copy.write(encoder.finish())
    return rows


def _plain_strings(table: pa.Table) -> pa.Table:
    """Strings as Arrow's plain ones: Polars gives views, which the encoder does not know."""
    is_text = pa.types.is_large_string, pa.types.is_string_view
    fields = [
        pa.field(field.name, pa.string() if any(check(field.type) for check in is_text) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))
