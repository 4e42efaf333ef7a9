"""What each store holds, counted in that store itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl
import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from polars.exceptions import PolarsError
from pyarrow import ArrowException
from pyarrow.dataset import Dataset
from pyarrow.fs import SubTreeFileSystem

from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.canonical import Digest, digest_of_frame, digest_postgres
from data_platform_core.derive.fields import fields_of
from data_platform_core.errors import ComponentFailed
from data_platform_core.kafka import client_settings
from data_platform_core.layers import (
    ACTIVITY_MART,
    TOPICS,
    Layer,
    lake_table,
    published_table,
    warehouse_table,
)
from data_platform_core.s3 import s3_options
from data_platform_core.s3_files import s3_file_system
from data_platform_core.settings import Settings


class LakeTable(DeltaTable):
    """A table of the lake whose files Arrow reads by itself.

    By Python's hands, as is delta-rs' default, one of Arrow's threads may want the interpreter while that ends, and
    aborts the process when all its work is done (apache/arrow issue 45214).
    """

    def __init__(self, settings: Settings, address: str) -> None:
        super().__init__(address, storage_options=s3_options(settings))
        self._files = SubTreeFileSystem(address.removeprefix("s3://"), s3_file_system(settings))

    def to_pyarrow_dataset(self, *arguments: Any, **words: Any) -> Dataset:
        """The files of this version as a dataset of Arrow's."""
        return super().to_pyarrow_dataset(*arguments, **(words | {"filesystem": self._files}))


def open_table(settings: Settings, layer: Layer, entity: str) -> DeltaTable | None:
    """A table of the lake for reading, or None where it does not exist yet."""
    address = lake_table(settings.lake_root, layer, entity).replace("s3a://", "s3://")
    try:
        return LakeTable(settings, address)
    except TableNotFoundError:
        return None
    except OSError as error:
        raise ComponentFailed(f"the lake at {settings.s3_url} is out of reach: {_short(error)}") from None


@contextmanager
def read_errors(what: str) -> Iterator[None]:
    """Tell of a table that cannot be read in a sentence.

    Raises:
        ComponentFailed: the store went away, or the table is not as its contract says.
    """
    try:
        yield
    except (OSError, DeltaError, ArrowException, PolarsError) as error:
        raise ComponentFailed(f"{what} could not be read: {_short(error)}") from None


def kafka_ends(settings: Settings, entity: str) -> dict[int, int]:
    """End offset of each partition of the entity's topic: messages ever appended, whatever retention took."""
    consumer = Consumer(client_settings(settings) | {"group.id": "crm-audit"})
    topic = TOPICS[entity]
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions}
    except KafkaException as error:
        raise ComponentFailed(f"Kafka at {settings.kafka_address} is out of reach: {error}") from None
    finally:
        consumer.close()


def kafka_count(settings: Settings, entity: str) -> int:
    """Messages ever appended to the entity's topic."""
    return sum(kafka_ends(settings, entity).values())


def lake_counts(settings: Settings, layer: Layer, entity: str) -> tuple[int, int]:
    """Rows of a bronze or quarantine table that came by the entity's topic, and how many different messages
    the table holds, whatever way they came; those of forgotten customers are blank, and no messages any more."""
    table = open_table(settings, layer, entity)
    if table is None:
        return 0, 0
    rows = _frame(table, ["value", "kafka_topic"])
    return len(rows.filter(pl.col("kafka_topic") == TOPICS[entity])), rows["value"].drop_nulls().n_unique()


def silver_digest(settings: Settings, entity: str) -> Digest:
    """Digest of the entity's silver table."""
    table = open_table(settings, "silver", entity)
    if table is None:
        return Digest()
    columns = [field.name for field in fields_of(CONTRACTS[entity])]
    return digest_of_frame(CONTRACTS[entity], _frame(table, columns))


def _frame(table: DeltaTable, columns: list[str]) -> pl.DataFrame:
    with read_errors(table.table_uri):
        frame = pl.from_arrow(table.to_pyarrow_table(columns=columns))
    assert isinstance(frame, pl.DataFrame)
    return frame


def published_digest(connection: psycopg.Connection, entity: str) -> Digest:
    """Digest of the entity's published table, computed by PostgreSQL."""
    row = connection.execute(digest_postgres(CONTRACTS[entity], published_table(entity))).fetchone()
    return Digest(*map(int, row)) if row else Digest()


def warehouse_count(connection: psycopg.Connection, entity: str) -> int | None:
    """Rows of the model that has one row per record; 0 where dbt has not built it yet, None where there is none."""
    table = warehouse_table(entity)
    return _number(connection, table, "count(*)") if table else None


def mart_count(connection: psycopg.Connection, entity: str) -> int:
    """Records that the mart of daily activity accounts for."""
    return _number(connection, ACTIVITY_MART, f"coalesce(sum(record_count) filter (where entity = '{entity}'), 0)")


def _number(connection: psycopg.Connection, table: str, expression: str) -> int:
    exists = connection.execute("select to_regclass(%s)", (table,)).fetchone()
    if not exists or exists[0] is None:
        return 0
    row = connection.execute(f"select {expression} from {table}").fetchone()  # type: ignore[arg-type]
    return int(row[0]) if row else 0


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]


def kept_digest(connection: psycopg.Connection, table: str, entity: str) -> Digest:
    """Digest of the records whose hashes stand in a table of `ops` (`forgotten_records`, `quarantine_replays`)."""
    rows = connection.execute(
        f"select distinct record_hash from ops.{table} where entity = %s",  # type: ignore[arg-type]
        (entity,),
    )
    return sum((Digest.from_hex(1, row[0]) for row in rows), Digest())
