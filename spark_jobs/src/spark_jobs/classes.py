"""`python -m spark_jobs.classes`: load the classes that the streaming application loads, and end.

The set-up runs it in a JVM that keeps an archive of them (`-XX:ArchiveClassesAtExit`): one that starts from the
archive does not find, parse and verify twenty thousand classes again. Needs neither a broker nor a store.
"""

from __future__ import annotations

import tempfile
import time

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from data_platform_core.contracts import CONTRACTS
from data_platform_core.errors import CrmError
from data_platform_core.settings import load_settings
from spark_jobs import io
from spark_jobs.session import spark_session
from spark_jobs.streaming.forgotten import Forgotten
from spark_jobs.streaming.land import Landing
from spark_jobs.tables import create_tables

_NOWHERE = "127.0.0.1:9"
"""Where nothing listens: what is asked of it is refused at once, by classes that are loaded then."""


def main() -> None:
    """Land a batch from a made-up source in a lake that is thrown away, and ask for a store and a broker."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings().model_copy(update={"lake_root": folder, "kafka_bootstrap": _NOWHERE})
        spark = spark_session("crm-classes")
        _ask_a_store(spark)
        io.kafka_consumer(spark, settings).close()
        create_tables(spark, settings)
        landing = Landing(spark, settings, CONTRACTS["events"], Forgotten([]))
        made_up = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 10).load().transform(_messages)
        query = (
            made_up.transform(landing.parsed)
            .writeStream.foreachBatch(landing.land_batch)
            .option("checkpointLocation", f"{folder}/checkpoints/events")
            .trigger(processingTime="1 hour")
            .start()
        )
        while query.isActive and not query.lastProgress:
            time.sleep(0.1)
        if query.exception():
            raise CrmError(f"the made-up batch did not land: {query.exception()}")
        query.stop()
        jvm = spark.sparkContext._gateway
        spark.stop()
        jvm.proc.stdin.close()  # which ends it
        jvm.proc.wait()


def _ask_a_store(spark: SparkSession) -> None:
    jvm = spark._jvm
    words = spark._jsc.hadoopConfiguration()
    once = {"endpoint": f"http://{_NOWHERE}", "secret.key": "none", "attempts.maximum": "1", "retry.limit": "0"}
    for name, value in once.items():
        words.set(f"fs.s3a.{name}", value)
    try:
        place = jvm.org.apache.hadoop.fs.Path("s3a://none/at/all")
        place.getFileSystem(words).exists(place)
    except Py4JJavaError:
        pass  # as it should be


def _messages(rows: DataFrame) -> DataFrame:
    message = F.format_string('{"schema_version": %d}', "value").cast("binary")
    return rows.select(
        message.alias("key"),
        message.alias("value"),
        F.lit("made-up").alias("kafka_topic"),
        F.lit(0).alias("kafka_partition"),
        F.col("value").alias("kafka_offset"),
        F.col("timestamp").alias("arrived_at"),
    )


if __name__ == "__main__":
    main()
