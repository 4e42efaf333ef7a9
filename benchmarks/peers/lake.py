"""What the lake is held against: the same Spark with the same settings, doing less. Prints one line of JSON.

`parsed`: reads the topic of events, parses with `from_json`, appends bare Parquet; `raw`: without parsing;
`session`: a Spark session and nothing else; `files FOLDER`: parses a folder of NDJSON and writes it once;
`floor TABLE READY`: appends raw messages of the topic to a Delta table as they come, until it is told to end.
Run in Spark's environment by `crm bench lake`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.spark import json_ddl
from data_platform_core.layers import TOPICS
from data_platform_core.settings import Settings, load_settings
from spark_jobs import io
from spark_jobs.session import spark_session


def main(kind: str, *words: str) -> dict[str, float]:
    """Do it, and say how long it took."""
    started = time.monotonic()
    spark = spark_session("peer")
    if kind == "session":
        spark.range(1).count()
        return {"seconds": time.monotonic() - started}
    settings = load_settings()
    if kind == "floor":
        return floor(spark, settings, *words)
    if kind == "files":
        return files(spark, f"{settings.lake_root}/peer/files", *words)
    topic, target = TOPICS["events"], f"{settings.lake_root}/peer/{kind}-{time.time_ns()}"
    first, last = io.bounds_of(spark, settings, topic)

    def written(begin: dict[int, int], end: dict[int, int], name: str) -> None:
        rows = io.kafka_between(spark, settings, topic, begin, end).transform(columns_of(kind))
        rows.write.mode("append").parquet(f"{target}/{name}")

    begin = {partition: min(offset + 20_000, last[partition]) for partition, offset in first.items()}
    written(first, begin, "warm")
    rows, started = 0, time.monotonic()
    while begin != last:  # in batches as large as the stream's
        step = settings.stream_max_offsets_per_trigger // max(1, len(last))
        end = {partition: min(offset + step, last[partition]) for partition, offset in begin.items()}
        written(begin, end, "timed")
        rows += sum(end[p] - begin[p] for p in last)
        begin = end
    seconds = time.monotonic() - started
    held = spark.read.parquet(f"{target}/timed").count()
    assert held == rows, f"{rows} rows in, {held} out"
    return {"rows": rows, "seconds": seconds}


def floor(spark: SparkSession, settings: Settings, table: str, ready: str) -> dict[str, float]:
    """Append what comes, raw, once a second at most; the rows are looked at from outside."""
    query = (
        io.kafka_stream(spark, settings, "events", "latest")
        .transform(columns_of("raw"))
        .writeStream.format("delta")
        .option("checkpointLocation", f"{table}-checkpoint")
        .trigger(processingTime="1 second")
        .start(table)
    )
    while not query.lastProgress:
        time.sleep(0.2)
    Path(ready).write_text("ready")
    query.awaitTermination()
    return {}


def files(spark: SparkSession, target: str, folder: str) -> dict[str, float]:
    """Parse files and write them once."""
    started = time.monotonic()
    rows = spark.read.schema(json_ddl(CONTRACTS["events"])).option("recursiveFileLookup", "true").json(folder)
    rows.withColumn("occurred_at", F.col("occurred_at").cast("timestamp")).write.parquet(target)
    seconds = time.monotonic() - started
    return {"rows": spark.read.parquet(target).count(), "seconds": seconds}


def columns_of(kind: str):  # type: ignore[no-untyped-def]
    """The transformation of a peer."""

    def raw(messages: DataFrame) -> DataFrame:
        return messages.select("key", "value", "topic", "partition", "offset", "timestamp")

    def parsed(messages: DataFrame) -> DataFrame:
        record = F.from_json(F.col("value").cast("string"), json_ddl(CONTRACTS["events"]))
        rows = messages.select(record.alias("r"), "partition", "offset").select("r.*", "partition", "offset")
        return rows.withColumn("occurred_at", F.col("occurred_at").cast("timestamp"))

    return {"raw": raw, "parsed": parsed}[kind]


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
