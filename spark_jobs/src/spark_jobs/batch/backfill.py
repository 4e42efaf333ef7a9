"""Backfill: files, or a topic, into the lake's tables through the stream's own transformations, by request.

Files are landed in pieces of a few; each file leaves a mark in bronze's log, in the transaction that brings
its rows. What was broken off is asked for again: files with a mark are passed over, and the rest of an
unfinished piece is settled by key as any repeat is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from hashlib import sha256
from typing import Any
from urllib.parse import urlparse

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from data_platform_core.contracts import Record
from data_platform_core.derive.fields import fields_of
from data_platform_core.errors import UsageError
from data_platform_core.layers import TOPICS, lake_table
from data_platform_core.s3 import objects_below
from data_platform_core.settings import Settings
from spark_jobs import io
from spark_jobs.streaming.land import Landing
from spark_jobs.transforms.messages import as_bronze

_PIECE_BYTES = 256 * 2**20
_FORMATS = ("ndjson", "parquet")
_MESSAGES_A_PIECE = 500_000


@dataclass(frozen=True)
class File:
    """A file to land; its name, size and state tell it from another of the same name."""

    address: str
    bytes: int
    state: str

    @property
    def mark(self) -> str:
        """The name of the file's mark in bronze's log."""
        return "backfill/" + sha256(f"{self.address}|{self.bytes}|{self.state}".encode()).hexdigest()[:32]


def files_below(settings: Settings, folder: str) -> list[File]:
    """The files of a folder, here or in the lake's store, in order of their names.

    Raises:
        UsageError: there are none, or of a format that is not read.
    """
    if urlparse(folder).scheme in ("s3", "s3a"):
        address = "s3a://" + folder.split("://", 1)[1].rstrip("/")
        bucket = address.removeprefix("s3a://").split("/")[0]
        found = [File(f"s3a://{bucket}/{one.key}", one.bytes, one.etag) for one in objects_below(settings, address)]
    else:
        found = sorted(_local(folder), key=lambda file: file.address)
    kept = [file for file in found if _format_of(file.address) in _FORMATS]
    if not kept:
        raise UsageError(f"{folder} holds no files to backfill: {' or '.join('*.' + name for name in _FORMATS)}")
    return kept


def backfill_files(
    spark: SparkSession, settings: Settings, landing: Landing, folder: str, report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Land the files of a folder that were not landed before; returns how many records came of them."""
    bronze = lake_table(settings.lake_root, "bronze", landing.contract.entity)
    there = io.writers_of(spark, bronze)
    files = files_below(settings, folder)
    left = [file for file in files if file.mark not in there]
    told = {"files": len(files), "files_there": len(files) - len(left), "records": 0, "refused": 0, "repeated": 0}
    reader = spark.newSession()
    # a file is read whole by one task: the rows of a task are numbered
    reader.conf.set("spark.sql.files.maxPartitionBytes", str(2**40))
    reader.conf.set("spark.sql.files.openCostInBytes", str(2**40))
    for piece in _pieces(left):
        messages = reduce(DataFrame.unionAll, [_messages_in(reader, file, landing.contract) for file in piece])
        marks = [file.mark for file in piece]
        # a name of the whole piece: one of its first file alone would pass over the rest of another piece
        writer = "backfill/piece/" + sha256("".join(marks).encode()).hexdigest()[:32]
        landed = landing.land(landing.parsed(messages), writer, 0, also=marks)
        told["records"] += landed.accepted
        told["refused"] += sum(landed.refused.values())
        told["repeated"] += landed.repeated
        report(told)
    return told


def backfill_topic(
    spark: SparkSession, settings: Settings, landing: Landing, topic: str, report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Land what a topic holds now, in pieces of offsets; messages that bronze holds are passed over."""
    entity = landing.contract.entity
    if topic == TOPICS[entity]:
        raise UsageError(f"{topic} is what the stream itself reads: it lands all of it without being asked")
    first, last = io.bounds_of(spark, settings, topic)
    told = {"messages": sum(last[p] - first[p] for p in last), "records": 0, "refused": 0, "repeated": 0}
    most, step = max((last[p] - first[p] for p in last), default=0), max(1, _MESSAGES_A_PIECE // len(last))
    for start in range(0, most, step):
        begin = {p: min(first[p] + start, last[p]) for p in last}
        end = {p: min(first[p] + start + step, last[p]) for p in last}
        span = ",".join(f"{p}:{begin[p]}-{end[p]}" for p in sorted(last))
        writer = f"backfill/{topic}/{sha256(span.encode()).hexdigest()[:32]}"
        messages = io.kafka_between(spark, settings, topic, begin, end).transform(as_bronze)
        held = io.table(spark, lake_table(settings.lake_root, "bronze", entity)).where(F.col("kafka_topic") == topic)
        place = ["kafka_topic", "kafka_partition", "kafka_offset"]
        new = messages.join(held.select(*place), place, "left_anti").select(*messages.columns)
        landed = landing.land(landing.parsed(new), writer, 0)
        told["records"] += landed.accepted
        told["refused"] += sum(landed.refused.values())
        told["repeated"] += landed.repeated
        report(told)
    return told


def _pieces(files: list[File]) -> Iterator[list[File]]:
    piece: list[File] = []
    for file in files:
        if piece and sum(one.bytes for one in piece) + file.bytes > _PIECE_BYTES:
            yield piece
            piece = []
        piece.append(file)
    if piece:
        yield piece


def _messages_in(reader: SparkSession, file: File, contract: type[Record]) -> DataFrame:
    """The records of a file as messages in bronze's columns; a file is a topic of a partition, a line an offset."""
    if _format_of(file.address) == "parquet":
        rows = reader.read.parquet(file.address)
        own = [field.name for field in fields_of(contract) if field.name in rows.columns]
        names = [*own, *(name for name in rows.columns if name not in own)]  # what a later version adds, too
        options = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'", "ignoreNullFields": "false"}
        value = F.to_json(F.struct(*names), options)
    else:
        rows = reader.read.text(file.address)
        value = F.col("value")
    return rows.select(
        F.lit(None).cast("binary").alias("key"),
        value.cast("binary").alias("value"),
        F.lit(file.mark).alias("kafka_topic"),
        F.lit(0).alias("kafka_partition"),
        F.monotonically_increasing_id().bitwiseAND((1 << 33) - 1).alias("kafka_offset"),
        F.current_timestamp().alias("arrived_at"),
    )


def _local(folder: str) -> Iterator[File]:
    for root, _, names in os.walk(folder):
        for name in names:
            place = os.path.join(root, name)  # noqa: PTH118 - os.walk speaks of texts
            found = os.stat(place)  # noqa: PTH116
            yield File(f"file://{os.path.abspath(place)}", found.st_size, str(found.st_mtime_ns))  # noqa: PTH100


def _format_of(address: str) -> str:
    return address.rpartition(".")[2]
