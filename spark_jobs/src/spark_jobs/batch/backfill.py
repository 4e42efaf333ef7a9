"""Backfill: files, or a topic, into the lake's tables through the stream's own transformations, by request.

Files are landed in pieces of a few; each file leaves a mark in bronze's log, in the transaction that brings
its rows. What was broken off is asked for again: files with a mark are passed over, and the rest of an
unfinished piece is settled by key as any repeat is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import reduce
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from data_platform_core.contracts import Record
from data_platform_core.derive.fields import fields_of
from data_platform_core.errors import UsageError
from data_platform_core.layers import LAYERS, TOPICS, lake_table, window_of
from data_platform_core.s3 import objects_below, place_of
from data_platform_core.s3_files import s3_file_system
from data_platform_core.settings import Settings
from spark_jobs import io
from spark_jobs.streaming.land import Landing
from spark_jobs.transforms.messages import as_bronze

_PIECE_BYTES = 256 * 2**20
_LARGEST_BYTES = 2 * _PIECE_BYTES
_ROW_BYTES = 450
"""What a row takes as text, for formats that pack it."""
_FORMATS = ("ndjson", "parquet")
_MESSAGES_A_PIECE = 500_000
_UNSEEN = re.compile(r"(^|/)[._][^/]*$")
"""Names that Spark passes over in silence."""
_PATTERN = re.compile(r"([][{}*?\\])")
"""What Spark would take for a pattern of names."""


@dataclass(frozen=True)
class Days:
    """Days of the shop, both ends included."""

    first: date
    last: date
    zone: ZoneInfo

    def touch(self, start: datetime, end: datetime) -> bool:
        """Whether [start, end) has a part of them."""
        begin, after = (datetime.combine(day, time(), self.zone) for day in (self.first, self.last + timedelta(days=1)))
        return start < after and end > begin

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"


@dataclass(frozen=True)
class File:
    """A file to land; its name, size and state tell it from another of the same name."""

    address: str
    bytes: int
    state: str
    text_bytes: int = 0
    """What its rows take as text; known where it is to be landed (`weighed`)."""

    @property
    def mark(self) -> str:
        """The name of the file's mark in bronze's log."""
        return "backfill/" + sha256(f"{self.address}|{self.bytes}|{self.state}".encode()).hexdigest()[:32]

    @property
    def topic(self) -> str:
        """What stands in its records' place of a topic: its mark, and its name for people."""
        return f"{self.mark}/{self.address.rpartition('/')[2]}"


def files_to_land(files: list[File], folder: str, days: Days | None = None) -> list[File]:
    """Those of a folder's files that a backfill reads.

    Args:
        days: only those whose name tells a window that these days have a part of.

    Raises:
        UsageError: there are none, or one that would be passed over: says which, and what to do.
    """
    kept = [file for file in files if _format_of(file) in _FORMATS]
    if not kept:
        raise UsageError(f"{folder} holds no files to backfill: {' or '.join('*.' + name for name in _FORMATS)}")
    for file in kept:
        if _UNSEEN.search(file.address):
            raise UsageError(f"{file.address} would be passed over, since its name begins with . or _: rename it")
        if ":" in file.address.partition("://")[2] and file.address.startswith("file:"):
            raise UsageError(f"{file.address} cannot be read by Hadoop, since its name has a colon: rename it")
    if days is None:
        return kept
    within = [file for file in kept if days.touch(*_window_of(file))]
    if not within:
        raise UsageError(f"{folder} holds no files of {days}: `crm backfill` without days takes all that it holds")
    return within


def files_below(settings: Settings, folder: str) -> list[File]:
    """All files of a folder, here or in the lake's store, in order of their names; or one file.

    Raises:
        UsageError: the address is of another kind.
    """
    if urlparse(folder).scheme in ("s3", "s3a"):
        address = "s3a://" + folder.split("://", 1)[1].rstrip("/")
        for own in (f"{settings.lake_root}/{name}" for name in (*LAYERS, "checkpoints")):
            if f"{own}/".startswith(f"{address}/") or f"{address}/".startswith(f"{own}/"):
                raise UsageError(f"{folder} holds the lake's own tables: name the folder below it with the files")
        bucket = address.removeprefix("s3a://").split("/")[0]
        return [File(f"s3a://{bucket}/{one.key}", one.bytes, one.etag) for one in objects_below(settings, address)]
    if urlparse(folder).scheme:
        raise UsageError(f"{folder}: a backfill reads a folder of this machine's, or s3://bucket/folder")
    return sorted(_local(folder), key=lambda file: file.address)


def _window_of(file: File) -> tuple[datetime, datetime]:
    window = window_of(file.address)
    if window is None:
        raise UsageError(
            f"{file.address} tells no window in its name, as 20261001T150000Z--20261002T150000Z.ndjson does: "
            "rename it, or leave the days out to land all files"
        )
    return window


def weighed(settings: Settings, files: list[File]) -> list[File]:
    """The files with what their rows take as text, which Parquet's footers tell.

    Raises:
        UsageError: one is too large to land at once, or no Parquet: says which, and what to do.
    """
    kept = [replace(file, text_bytes=_text_bytes(settings, file)) for file in files]
    for file in kept:
        if file.text_bytes > _LARGEST_BYTES:
            raise UsageError(
                f"{file.address} is too large to land at once ({file.text_bytes / 2**20:,.0f} MiB of text, and "
                f"{_LARGEST_BYTES // 2**20} at most): split it, as by `split --line-bytes=200M`"
            )
    return kept


def backfill_files(
    spark: SparkSession,
    settings: Settings,
    landing: Landing,
    folder: str,
    days: Days | None,
    report: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Land the files of a folder, or of some days of it, that were not landed before; returns what came of them."""
    bronze = lake_table(settings.lake_root, "bronze", landing.contract.entity)
    there = io.writers_of(spark, bronze)
    found = files_below(settings, folder)
    files = files_to_land(found, folder, days)
    left = weighed(settings, [file for file in files if file.mark not in there])
    others = [file for file in found if _format_of(file) not in _FORMATS and not _UNSEEN.search(file.address)]
    told = {"files": len(files), "files_there": len(files) - len(left), "records": 0, "refused": 0, "repeated": 0}
    if others:  # a *.gz, say: nobody should take it for landed
        told["files_of_other_formats"] = len(others)
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
        _check_same_topic(messages, held, place, topic)
        new = messages.join(held.select(*place), place, "left_anti").select(*messages.columns)
        landed = landing.land(landing.parsed(new), writer, 0)
        told["records"] += landed.accepted
        told["refused"] += sum(landed.refused.values())
        told["repeated"] += landed.repeated
        report(told)
    return told


def _check_same_topic(messages: DataFrame, held: DataFrame, place: list[str], topic: str) -> None:
    """Whether what bronze holds of these places is of this topic, and not of one that had its name before."""
    before = held.select(*place, F.col("arrived_at").alias("arrived_before"))
    other = messages.join(before, place).where("arrived_at != arrived_before").first()
    if other:
        raise UsageError(
            f"{topic} is not the topic of that name that was landed before (partition {other['kafka_partition']}, "
            f"offset {other['kafka_offset']} is another message): it was made anew. Give it a name of its own"
        )


def _pieces(files: list[File]) -> Iterator[list[File]]:
    piece: list[File] = []
    for file in files:
        if piece and sum(one.text_bytes for one in piece) + file.text_bytes > _PIECE_BYTES:
            yield piece
            piece = []
        piece.append(file)
    if piece:
        yield piece


def _messages_in(reader: SparkSession, file: File, contract: type[Record]) -> DataFrame:
    """The records of a file as messages in bronze's columns; a file is a topic of a partition, a line an offset."""
    place = _PATTERN.sub(r"\\\1", file.address)
    if _format_of(file) == "parquet":
        rows = reader.read.parquet(place)
        own = [field.name for field in fields_of(contract) if field.name in rows.columns]
        names = [*own, *(name for name in rows.columns if name not in own)]  # what a later version adds, too
        options = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'", "ignoreNullFields": "false"}
        value = F.to_json(F.struct(*names), options)
    else:
        rows = reader.read.text(place)
        value = F.col("value")
    return rows.select(
        F.lit(None).cast("binary").alias("key"),
        value.cast("binary").alias("value"),
        F.lit(file.topic).alias("kafka_topic"),
        F.lit(0).alias("kafka_partition"),
        F.monotonically_increasing_id().bitwiseAND((1 << 33) - 1).alias("kafka_offset"),
        F.current_timestamp().alias("arrived_at"),
    )


def _local(folder: str) -> Iterator[File]:
    top = Path(folder)
    for place in [top] if top.is_file() else [Path(root) / name for root, _, names in os.walk(top) for name in names]:
        found = place.stat()
        yield File(f"file://{place.absolute()}", found.st_size, str(found.st_mtime_ns))


def _format_of(file: File) -> str:
    return file.address.rpartition(".")[2]


def _text_bytes(settings: Settings, file: File) -> int:
    if _format_of(file) != "parquet":
        return file.bytes
    try:
        if file.address.startswith("file://"):
            return pq.read_metadata(file.address.removeprefix("file://")).num_rows * _ROW_BYTES
        with s3_file_system(settings).open_input_file("/".join(place_of(file.address))) as source:
            return pq.read_metadata(source).num_rows * _ROW_BYTES
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"{file.address} cannot be read as Parquet: {str(error).splitlines()[0][:200]}") from None
