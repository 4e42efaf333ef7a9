"""What each store holds, counted in that store itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
from data_platform_core.settings import Settings

if TYPE_CHECKING:
    import polars as pl
    import psycopg
    from deltalake import DeltaTable


def open_table(settings: Settings, layer: Layer, entity: str) -> DeltaTable | None:
    """A table of the lake for reading, or None where it does not exist yet."""
    from deltalake.exceptions import TableNotFoundError

    from data_platform_core.lake_table import LakeTable

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
    from deltalake.exceptions import DeltaError
    from polars.exceptions import PolarsError
    from pyarrow import ArrowException

    try:
        yield
    except (OSError, DeltaError, ArrowException, PolarsError) as error:
        raise ComponentFailed(f"{what} could not be read: {_short(error)}") from None


def kafka_ends(settings: Settings, entity: str) -> dict[int, int]:
    """End offset of each partition of the entity's topic: messages ever appended, whatever retention took."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

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
    import polars as pl

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
    import polars as pl

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
