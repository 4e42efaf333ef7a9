"""Upkeep of a table: few large files instead of many small ones, and nothing kept longer than it is needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from data_platform_core.errors import UsageError
from data_platform_core.layers import LAYERS, lake_table
from data_platform_core.settings import Settings

FLOOR_HOURS = 1.0
"""Below that, readers and a batch under way could lose files they are at."""
_DELTAS_OWN = (
    "spark.databricks.delta.retentionDurationCheck.enabled",
    # otherwise Delta takes the retention of the table's properties, whatever is asked for
    "spark.databricks.delta.vacuum.retentionWindowIgnore.enabled",
)
_SMALL_FILE_BYTES = 16 * 2**20


def maintain(
    spark: SparkSession,
    settings: Settings,
    entities: tuple[str, ...],
    retention_hours: float,
    is_compact_only: bool,
    marks: dict[str, int],
    held: Callable[[str], AbstractContextManager[None]],
    report: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Compact and vacuum the tables of some entities; returns a report a table.

    Args:
        retention_hours: how long the files of old versions stay.
        marks: silver's version up to which each entity is published.
        held: holds an entity's tables, so that no batch of it lands meanwhile.

    Raises:
        UsageError: the retention is below its floor.
    """
    if not FLOOR_HOURS <= retention_hours < math.inf:
        raise UsageError(
            f"a retention of {retention_hours:g} hours is too short, or none: {FLOOR_HOURS:g} hour at least"
        )
    found: dict[str, Any] = {}
    for entity in entities:
        for layer in LAYERS:
            address = lake_table(settings.lake_root, layer, entity)
            name = f"{layer}.{entity}"
            report({"at": name})
            before = figures(spark, address)
            with held(entity):
                compact(spark, address)
            told: dict[str, Any] = {"before": before}
            if not is_compact_only:
                mark = marks.get(entity) if layer == "silver" else None
                hours = retention_hours
                if layer == "silver":
                    hours = max(hours, hours_to_keep(spark, address, mark))
                told |= {"retention_hours": round(hours, 2), "orphans": orphans(spark, address, hours)}
                with held(entity):
                    vacuum(spark, address, hours)
            found[name] = told | {"after": figures(spark, address)}
    return found


def figures(spark: SparkSession, address: str) -> dict[str, Any]:
    """What a table is now: version, files, bytes, and what was done to it last."""
    table = DeltaTable.forPath(spark, address)
    detail = table.detail().first()
    last = table.history(1).first()
    assert detail is not None
    assert last is not None
    files, size = int(detail["numFiles"]), int(detail["sizeInBytes"])
    return {
        "version": int(last["version"]),
        "files": files,
        "bytes": size,
        "mean_file_bytes": size // files if files else 0,
        "has_small_files": files > 1 and size // files < _SMALL_FILE_BYTES,
        "last_operation": str(last["operation"]),
    }


def compact(spark: SparkSession, address: str) -> None:
    """Join small files (`OPTIMIZE`); readers see the same rows before and after."""
    DeltaTable.forPath(spark, address).optimize().executeCompaction()


def hours_to_keep(spark: SparkSession, address: str, mark: int | None) -> float:
    """How far back the publish still needs silver's files: to the version it has read, or to the first."""
    history = DeltaTable.forPath(spark, address).history()
    needed = history.where(F.col("version") >= (mark if mark is not None else -1))
    age = needed.agg(F.expr("unix_timestamp() - min(unix_timestamp(timestamp))")).first()
    if age is None or age[0] is None:
        return 0.0
    return float(age[0]) / 3600 + FLOOR_HOURS


def orphans(spark: SparkSession, address: str, hours: float) -> dict[str, Any]:
    """The files that no version within the retention refers to: how many, and the first of them."""
    with unchecked_retention(spark):
        found = spark.sql(f"VACUUM delta.`{address}` RETAIN {hours:.4f} HOURS DRY RUN")
        paths = [str(row[0]).removeprefix(address + "/") for row in found.collect()]
    return {"files": len(paths), "first": paths[:10]}


def vacuum(spark: SparkSession, address: str, hours: float) -> None:
    """Remove the files that no version within the retention refers to; the caller has checked the hours."""
    with unchecked_retention(spark):
        DeltaTable.forPath(spark, address).vacuum(hours)


class unchecked_retention:
    """A block in which Delta leaves the length of the retention to us."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def __enter__(self) -> None:
        for name in _DELTAS_OWN:
            self._spark.conf.set(name, "false")

    def __exit__(self, *_: object) -> None:
        for name in _DELTAS_OWN:
            self._spark.conf.unset(name)
