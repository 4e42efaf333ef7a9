"""How messages of one entity land: quarantine, then silver, then bronze, each exactly once.

Every write carries the name of its writer (the id of the query's checkpoint, or of a backfill's piece)
and the number of the batch. A batch that was not finished is repeated with the very same messages;
tables that have it skip it. Bronze comes last: what bronze holds is settled, so that a new checkpoint
may go on from there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.util import inheritable_thread_target

from data_platform_core.contracts import Record
from data_platform_core.derive.spark import canonical_spark
from data_platform_core.errors import CrmError
from data_platform_core.fail_point import fail_point
from data_platform_core.layers import LAYERS, Layer, lake_table
from data_platform_core.settings import Settings
from spark_jobs import io
from spark_jobs.streaming.beside import TableBeside
from spark_jobs.streaming.failures import in_one_line
from spark_jobs.streaming.figures import Landed
from spark_jobs.streaming.forgotten import FORGOTTEN, Forgotten, blanked
from spark_jobs.streaming.remembered import STRETCH_MICROSECONDS, Keys, Remembered, ranges_of, repeats_within
from spark_jobs.transforms.parse import COORDINATES, MESSAGE, parsed, refused, silver_columns
from spark_jobs.transforms.settle import first_of_each_key, with_validity

_log = logging.getLogger(__name__)
_ROWS_A_FILE = 50_000
"""Below that, a batch is written as one file: more of them cost more than a second core brings."""
_MOST_LEARNT = 1_000_000
"""Keys of stretches that lie between those asked about, and are remembered as they were read anyway."""
_MOST_LISTED = 5_000
_COMMIT_ORDER: tuple[Layer, ...] = ("quarantine", "silver", "bronze")
"""Quarantine's few rows are written soonest: its commit passes while the others' files are written."""


class BatchFailed(CrmError):
    """A batch that did not land, for a reason of Spark's or of a store's."""


@dataclass(frozen=True)
class _Facts:
    """What is known of a batch before it is written, one item a message."""

    places: np.ndarray
    keys: Keys
    accepted: np.ndarray
    refused: dict[str, int]
    refused_at: pl.DataFrame
    forgotten: int
    future_dated: int
    watermark: datetime | None


@dataclass(frozen=True)
class _New:
    """What of a batch silver does not hold: its rows, and their keys where keys are remembered."""

    rows: DataFrame | None
    repeated: int
    keys: Keys | None = None


class Landing:
    """Lands messages of one entity; one batch at a time."""

    def __init__(
        self,
        spark: SparkSession,
        settings: Settings,
        contract: type[Record],
        forgotten: Forgotten,
        check_owner: Callable[[], None] = lambda: None,
        told: Callable[[str, Landed], None] = lambda entity, landed: None,
        note_forgotten: Callable[[str, list[str]], None] = lambda entity, hashes: None,
    ) -> None:
        self.contract = contract
        self._spark, self._settings = spark, settings
        self._forgotten, self._check_owner, self._told = forgotten, check_owner, told
        self._note_forgotten = note_forgotten
        self._tables = {layer: lake_table(settings.lake_root, layer, contract.entity) for layer in LAYERS}
        self._tolerance = timedelta(seconds=settings.stream_future_tolerance_seconds)
        self._beside = {layer: TableBeside(settings, address) for layer, address in self._tables.items()}
        self._remembered = Remembered(settings.stream_remembered_keys)
        self._lock = threading.RLock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the entity's tables: no batch of it lands meanwhile, and no other driver owns them."""
        with self._lock:
            self._check_owner()
            try:
                yield
            except BaseException:
                self._remembered.forget()  # it is not known what was committed
                raise

    def land_batch(self, source: DataFrame, batch: int) -> None:
        """Land a batch of the stream."""
        # the id lives in the checkpoint: a fresh checkpoint, which counts from 0 again, has a fresh one
        writer = source.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")
        if writer is None:
            raise CrmError("a batch without the id of its query cannot be made exact: this Spark does not tell it")
        try:
            self.land(source, writer, batch)
        except CrmError:
            raise
        except Exception as error:
            # Spark holds the words of a failed batch against a pattern that takes a stack frame a letter
            raise BatchFailed(in_one_line(str(error))) from None

    def parsed(self, messages: DataFrame) -> DataFrame:
        """Messages in bronze's columns as `land` takes them; put into the stream's own plan, which is made once."""
        return parsed(messages, self.contract, self._tolerance)

    def land(self, messages: DataFrame, writer: str, number: int, also: Iterable[str] = ()) -> Landed:
        """Land parsed messages under a writer's name and number; a repeat changes nothing.

        Args:
            also: further names that bronze is marked with as done.
        """
        entity, started = self.contract.entity, time.monotonic()
        with self.held(), ExitStack() as kept:
            cores = self._spark.sparkContext.defaultParallelism
            has_forgotten = self._forgotten.concerns(self.contract)
            rows = self._forgotten.marked(messages) if has_forgotten else messages
            # files that land together have no place in Kafka that tells their messages apart
            rows = io.kept(rows.coalesce(cores).withColumn("place", F.monotonically_increasing_id()))
            kept.callback(io.let_go, rows)
            facts = _facts_of(rows, self.contract)
            was_read = time.monotonic()
            few = rows.coalesce(1 if len(facts.places) <= _ROWS_A_FILE else cores)
            wanted: dict[Layer, DataFrame] = {}
            if self.contract.is_master:
                new = self._new_versions(few, facts, kept)
            else:
                new = self._new_records(few, facts)
            if new.rows is not None:
                wanted["silver"] = new.rows
            if facts.refused:
                bad = _without(few, self._quarantined(facts.refused_at))
                wanted["quarantine"] = refused(bad).coalesce(1)
            raw = few
            if facts.forgotten:
                self._note_forgotten(self.contract.entity, _hashes_kept_out(few, self.contract))
                raw = blanked(few)
            # also where nothing is left of the batch: bronze's number is held against the checkpoint's
            wanted["bronze"] = raw.select(*MESSAGE, *COORDINATES)
            was_settled = time.monotonic()
            appended = self._append(wanted, writer, number, also)
            if "silver" in appended and new.keys is not None:
                self._remembered.add(new.keys)
            self._remembered.trim()
            self._fail_point("before_checkpoint")
        ended = time.monotonic()
        seconds = {"read": was_read - started, "settle": was_settled - was_read, "write": ended - was_settled}
        landed = self._figures(facts, new.repeated, seconds)
        self._told(entity, landed)
        return landed

    def _fail_point(self, place: str) -> None:
        fail_point(f"{place}:{self.contract.entity}", self._settings)

    def _append(self, wanted: dict[Layer, DataFrame], writer: str, number: int, also: Iterable[str]) -> list[Layer]:
        """Append to the tables that do not have the batch of an earlier try, bronze last; returns which those were.

        Files are written side by side, since each waits for the store; commits follow each other.
        """
        order = [layer for layer in _COMMIT_ORDER if layer in wanted]
        with ThreadPoolExecutor(len(LAYERS)) as pool:
            beginnings = pool.map(lambda layer: io.Transaction(self._spark, self._tables[layer], writer, number), order)
            begun = dict(zip(order, beginnings, strict=True))
            todo = [layer for layer in order if not begun[layer].is_done]
            # a thread of its own has the properties of the batch's jobs only if it is given them
            with_properties = inheritable_thread_target(self._spark)
            written = {layer: pool.submit(with_properties(begun[layer].write), wanted[layer]) for layer in todo}
            for layer in _COMMIT_ORDER:
                self._fail_point(f"before_{layer}")
                if layer in written:
                    begun[layer].commit(written[layer].result(), self._check_owner, also if layer == "bronze" else ())
        return todo

    # --- events and orders: each record stands for itself ----------------------------------------

    def _new_records(self, rows: DataFrame, facts: _Facts) -> _New:
        """The accepted records whose key silver does not hold."""
        keys, places = facts.keys[facts.accepted], facts.places[facts.accepted]
        self._learn(keys)
        is_repeat = repeats_within(keys) | self._remembered.are_held(keys)
        if is_repeat.all():
            return _New(None, len(keys))
        accepted = _without(rows.where(F.col("reason").isNull()), places[is_repeat])
        fresh = accepted.select(*silver_columns(self.contract))
        return _New(fresh, int(is_repeat.sum()), keys[~is_repeat])

    def _learn(self, keys: Keys) -> None:
        """Remember what silver holds of the stretches that these keys fall on."""
        if not self._remembered.has_begun:
            self._remembered.begin(self._beside["silver"].spans("occurred_at"))
        unknown = self._remembered.unknown(keys)
        if not unknown:
            return
        at = pc.field("occurred_at")
        ranges = ranges_of(unknown)
        wanted = [(at >= _instant(first)) & (at < _instant(last + 1)) for first, last in ranges]
        held: list[Keys] = []
        for rows in self._beside["silver"].batches([*self.contract.key, "occurred_at"], reduce(or_, wanted)):
            part = Keys.of(rows.select(self.contract.key), rows["occurred_at"].dt.epoch("us").to_numpy())
            held.append(part if ranges else part.on(unknown))
            if ranges and sum(map(len, held)) > _MOST_LEARNT:  # then no more than what was asked about
                ranges, held = [], [each.on(unknown) for each in held]
        self._remembered.learn(ranges, unknown, Keys.joined(held))

    # --- products and profiles: each record is a version of its owner ------------------------------

    def _new_versions(self, rows: DataFrame, facts: _Facts, kept: ExitStack) -> _New:
        """The versions that silver does not hold, after those that they follow were ended, in whatever order they came.

        The ends come first: the append makes the batch done.
        """
        accepted = int(facts.accepted.sum())
        if not accepted:
            return _New(None, 0)
        owner = self.contract.owner
        names = silver_columns(self.contract)
        arrived = rows.where(F.col("reason").isNull()).transform(first_of_each_key, self.contract).select(*names)
        silver = io.table(self._spark, self._tables["silver"])
        held = silver.join(F.broadcast(arrived.select(owner).distinct()), owner, "left_semi")
        held = held.select(*names, "valid_to", F.lit(True).alias("is_held"))
        new = arrived.join(held.select(*self.contract.key), list(self.contract.key), "left_anti")
        both = held.withColumnRenamed("valid_to", "valid_before").unionByName(
            new.withColumns({"valid_before": F.lit(None).cast("timestamp"), "is_held": F.lit(False)})
        )
        # one task for few rows: a shuffle would make a file of each of its partitions
        versions = with_validity(both, owner).coalesce(1).persist()
        kept.callback(versions.unpersist)
        count = versions.where("not is_held").count()
        ended = versions.where("is_held and not (valid_before <=> valid_to)").select(*self.contract.key, "valid_to")
        self._fail_point("before_ends")
        if not ended.isEmpty():
            match = " and ".join(f"held.{name} = new.{name}" for name in self.contract.key)
            self._check_owner()
            # of itself safe to repeat: what is to end is read from the table
            io.update_matching(ended, self._tables["silver"], match, {"valid_to": "new.valid_to"})
        fresh = versions.where("not is_held").select(*names, "valid_from", "valid_to")
        return _New(fresh if count else None, accepted - count)

    # --- quarantine ----------------------------------------------------------------------------

    def _quarantined(self, refused_at: pl.DataFrame) -> np.ndarray:
        """Places of the refused messages that quarantine holds: of a checkpoint before this one, or a backfill."""
        at = [name for name in refused_at.columns if name != "place"]
        offset, partition, topic = pc.field("kafka_offset"), pc.field("kafka_partition"), pc.field("kafka_topic")
        bounds = refused_at.select(pl.min("kafka_offset").alias("first"), pl.max("kafka_offset").alias("last")).row(0)
        condition = (offset >= bounds[0]) & (offset <= bounds[1])
        condition &= partition.isin(refused_at["kafka_partition"].unique().to_list())
        condition &= topic.isin(refused_at["kafka_topic"].unique().to_list())
        held = self._beside["quarantine"].rows(at, condition)
        if held.is_empty():
            return np.empty(0, np.int64)
        return refused_at.join(held, on=at, how="semi")["place"].to_numpy()

    def _figures(self, facts: _Facts, repeated: int, seconds: dict[str, float]) -> Landed:
        return Landed(
            rows=len(facts.places),
            accepted=int(facts.accepted.sum()),
            repeated=repeated,
            refused=facts.refused,
            future_dated=facts.future_dated,
            remembered_keys=self._remembered.count,
            remembered_bytes=self._remembered.bytes,
            watermark=facts.watermark,
            seconds=seconds,
        )


def _facts_of(rows: DataFrame, contract: type[Record]) -> _Facts:
    """One pass over a batch, which also caches it."""
    is_refused = F.col("reason").isNotNull()
    found = rows.select(
        "place",
        *contract.key,
        F.unix_micros("occurred_at").alias("occurred"),
        "reason",
        (F.col("reason").isNull() & F.col("is_future_dated")).alias("is_future_dated"),
        F.when(F.col("reason").isNull(), F.unix_micros("effective_at")).alias("effective"),
        *[F.when(is_refused, F.col(name)).alias(name) for name in COORDINATES[:3]],
    ).toArrow()
    of_refused = found.filter(found["reason"].is_valid()).select(["place", *COORDINATES[:3]])
    reasons = {one["values"]: one["counts"] for one in found["reason"].drop_null().value_counts().to_pylist()}
    forgotten = reasons.pop(FORGOTTEN, 0)
    latest = pc.max(found["effective"]).as_py()
    return _Facts(
        places=found["place"].to_numpy(),
        keys=Keys.of(pl.DataFrame(found.select(contract.key)), found["occurred"].fill_null(0).to_numpy()),
        accepted=found["reason"].is_null().to_numpy(zero_copy_only=False),
        refused=reasons,
        refused_at=pl.DataFrame(of_refused),
        forgotten=forgotten,
        future_dated=pc.sum(found["is_future_dated"]).as_py() or 0,
        watermark=datetime.fromtimestamp(latest / 1e6, UTC) if latest is not None else None,
    )


def _hashes_kept_out(rows: DataFrame, contract: type[Record]) -> list[str]:
    """The hashes of the records of forgotten customers that silver would have held."""
    kept_out = rows.where((F.col("reason") == FORGOTTEN) & F.col("reason_as_read").isNull())
    return [row[0] for row in kept_out.select(F.expr(record_hash(contract))).distinct().collect()]


def record_hash(contract: type[Record]) -> str:
    """The hash of a silver row in canonical form, as Spark SQL: 32 hexadecimal digits."""
    return f"substring(sha2({canonical_spark(contract)}, 256), 1, 32)"


def _instant(stretch: int) -> pa.Scalar:
    return pa.scalar(stretch * STRETCH_MICROSECONDS, pa.timestamp("us", "UTC"))


def _without(rows: DataFrame, places: np.ndarray) -> DataFrame:
    """Rows without those of some places; a few as text, since thousands of literals take long to build and to parse."""
    if not len(places):
        return rows
    if len(places) <= _MOST_LISTED:
        return rows.where(F.expr(f"place not in ({', '.join(map(str, places.tolist()))})"))
    listed = rows.sparkSession.createDataFrame(pa.table({"place": places}))
    return rows.join(F.broadcast(listed), "place", "left_anti")
