"""Reading and writing: the Kafka source, and transactions on Delta tables that a repeat cannot double.

Appends go through Delta's own `OptimisticTransaction` instead of `DataFrameWriter`: a writer plans a
command, lists the log and reads its state for every append, which a batch of a few hundred rows spends
most of its time on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from data_platform_core.errors import ComponentFailed
from data_platform_core.kafka import java_settings
from data_platform_core.layers import TOPICS
from data_platform_core.settings import Settings

APPEND = "STREAMING UPDATE"
"""What Delta's history calls an append of ours."""


def kafka_stream(spark: SparkSession, settings: Settings, entity: str, starting_offsets: str) -> DataFrame:
    """The messages of an entity's topic as a stream; `starting_offsets` counts for a new checkpoint only."""
    return (
        spark.readStream.format("kafka")
        .options(**{f"kafka.{name}": value for name, value in java_settings(settings).items()})
        .option("subscribe", TOPICS[entity])
        .option("startingOffsets", starting_offsets)
        .option("failOnDataLoss", str(not settings.stream_allow_data_loss).lower())
        .option("maxOffsetsPerTrigger", settings.stream_max_offsets_per_trigger)
        .load()
    )


def table(spark: SparkSession, address: str) -> DataFrame:
    """A table of the lake, as it is now."""
    return spark.read.format("delta").load(address)


def kept(rows: DataFrame) -> DataFrame:
    """The same rows, kept as they are from the first time they are read until `let_go`.

    As rows and not as columns, as `persist` would: a batch is read three times, and whole.
    """
    return rows.localCheckpoint(eager=False, storageLevel=StorageLevel.MEMORY_AND_DISK_DESER)


def let_go(rows: DataFrame) -> None:
    """Free what `kept` holds."""
    rows._jdf.logicalPlan().rdd().unpersist(False)


def columns_in(spark: SparkSession, address: str) -> list[str] | None:
    """The names of a table's columns; None where there is no table."""
    log = _log(spark, address)
    return list(log.unsafeVolatileSnapshot().schema().fieldNames()) if log.tableExists() else None


class Transaction:
    """One append to a table under a writer's name and a growing number.

    A repeat is noticed and writes nothing (`is_done`). Where another driver appended under the same name
    since, or wrote the same version of the table, the commit fails.
    """

    def __init__(self, spark: SparkSession, address: str, writer: str, number: int) -> None:
        self._spark, self._writer, self._number = spark, writer, number
        nothing = _jvm(spark).scala.Option.empty()
        log = _log(spark, address)
        self._transaction = log.startTransaction(nothing, _jvm(spark).scala.Some(_updated(spark, log)))
        # what was read of the writer is checked against commits that come between
        getattr(self._transaction.readTxn(), "$plus$eq")(writer)
        self.is_done = _number_of(self._transaction.snapshot(), writer) >= number

    def write(self, rows: DataFrame) -> Any:
        """Write the files of the append; no reader sees them before the commit."""
        return self._transaction.writeFiles(rows._jdf)

    def commit(self, files: Any, before_commit: Callable[[], None], also: Iterable[str] = ()) -> int:
        """Commit what was written; returns the table's new version.

        Args:
            files: what `write` returned.
            before_commit: may still refuse.
            also: further names under which the append is marked as done.
        """
        jvm = _jvm(self._spark)
        nothing = jvm.scala.Option.empty()
        actions = files
        for name in (self._writer, *also):
            actions = actions.appended(
                jvm.org.apache.spark.sql.delta.actions.SetTransaction(name, self._number, nothing)
            )
        append = jvm.org.apache.spark.sql.streaming.OutputMode.Append()
        operation = getattr(jvm.org.apache.spark.sql.delta, "DeltaOperations$StreamingUpdate")(
            append, self._writer, self._number, nothing
        )
        before_commit()
        return int(self._transaction.commit(actions, operation))


def last_number(spark: SparkSession, address: str, writer: str) -> int:
    """The number of a writer's last append to a table; -1 where it has none."""
    return _number_of(_updated(spark, _log(spark, address)), writer)


def update_matching(rows: DataFrame, address: str, condition: str, update: dict[str, str | Column]) -> None:
    """Update the rows of a table (`held`) that match (`new`)."""
    (
        DeltaTable.forPath(rows.sparkSession, address)
        .alias("held")
        .merge(rows.alias("new"), condition)
        .whenMatchedUpdate(set=update)
        .execute()
    )


def _jvm(spark: SparkSession) -> Any:
    return spark._jvm


def _log(spark: SparkSession, address: str) -> Any:
    # a thread of its own has no session, and Delta asks for one where a version has no checksum to read
    sessions = _jvm(spark).org.apache.spark.sql.classic.SparkSession
    if sessions.getActiveSession().isEmpty():
        sessions.setActiveSession(spark._jsparkSession)
    return _jvm(spark).org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, address)


def _updated(spark: SparkSession, log: Any) -> Any:
    nothing = _jvm(spark).scala.Option.empty()
    return log.update(False, nothing, nothing)


def _number_of(snapshot: Any, writer: str) -> int:
    return _numbers(snapshot).get(writer, -1)


def _numbers(snapshot: Any) -> dict[str, int]:
    """The last number of each writer."""
    # in the checksum of the version where it has one; `setTransactionsIfKnown` computes the whole state for it
    checksum = snapshot.checksumOpt()
    known = checksum.get().setTransactions() if checksum.isDefined() else checksum
    marks = (known.get() if known.isDefined() else snapshot.setTransactions()).iterator()
    found = {}
    while marks.hasNext():
        mark = marks.next()
        found[str(mark.appId())] = int(mark.version())
    return found


def writers_of(spark: SparkSession, address: str) -> set[str]:
    """The names under which a table was appended to."""
    return set(_numbers(_updated(spark, _log(spark, address))))


def appended_since(spark: SparkSession, address: str, version: int) -> set[str]:
    """The names under which a table was appended to after a version."""
    log = DeltaTable.forPath(spark, address).history().where(F.col("version") > version)
    writers = log.where(F.col("operation") == APPEND).select(F.col("operationParameters")["queryId"]).collect()
    return {str(row[0]).strip('"') for row in writers}


def version_of(spark: SparkSession, address: str) -> int:
    """The version of a table."""
    return int(_updated(spark, _log(spark, address)).version())


def kafka_consumer(spark: SparkSession, settings: Settings) -> Any:
    """A consumer of the JVM's, which makes no topic and waits 15 s at most."""
    jvm = _jvm(spark)
    bytes_of = "org.apache.kafka.common.serialization.ByteArrayDeserializer"
    words = jvm.java.util.HashMap()
    limits = {"default.api.timeout.ms": "15000", "key.deserializer": bytes_of, "value.deserializer": bytes_of}
    limits["allow.auto.create.topics"] = "false"
    for name, value in (java_settings(settings) | limits).items():
        words.put(name, value)
    return jvm.org.apache.kafka.clients.consumer.KafkaConsumer(words)


def bounds_of(spark: SparkSession, settings: Settings, topic: str) -> tuple[dict[int, int], dict[int, int]]:
    """The first offset and the next one of each partition of a topic, as Kafka has them now.

    Raises:
        ComponentFailed: Kafka is out of reach, or has no such topic.
    """
    jvm = _jvm(spark)
    consumer = None
    try:
        consumer = kafka_consumer(spark, settings)
        partitions = jvm.java.util.ArrayList()
        for info in consumer.partitionsFor(topic) or ():
            partitions.add(jvm.org.apache.kafka.common.TopicPartition(topic, info.partition()))
        if not len(partitions):
            raise ComponentFailed(f"Kafka at {settings.kafka_address} has no topic {topic}")
        first, last = consumer.beginningOffsets(partitions), consumer.endOffsets(partitions)
        return tuple({int(one.partition()): int(found[one]) for one in found} for found in (first, last))  # type: ignore[return-value]
    except Py4JJavaError as error:
        reason = str(error.java_exception.getMessage())[:300]
        raise ComponentFailed(f"Kafka at {settings.kafka_address} does not tell its offsets: {reason}") from None
    finally:
        if consumer is not None:
            consumer.close()


def kafka_between(
    spark: SparkSession, settings: Settings, topic: str, begin: dict[int, int], end: dict[int, int]
) -> DataFrame:
    """The messages of a topic from some offsets, by partition, up to others."""
    bounds = {"startingOffsets": begin, "endingOffsets": end}
    return (
        spark.read.format("kafka")
        .options(**{f"kafka.{name}": value for name, value in java_settings(settings).items()})
        .option("subscribe", topic)
        .options(**{n: json.dumps({topic: {str(p): o for p, o in at.items()}}) for n, at in bounds.items()})
        .load()
    )
