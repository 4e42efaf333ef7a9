"""How one micro-batch of one entity lands: bronze, silver, quarantine, each at most once.

Every write carries the id of the query's checkpoint and the number of the batch. Spark repeats a
batch that was not committed with the very same offsets; Delta then skips the writes that it has.
"""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame

from data_platform_core.contracts import Record
from data_platform_core.errors import CrmError
from data_platform_core.fail_point import fail_point
from data_platform_core.layers import lake_table
from data_platform_core.settings import Settings
from spark_jobs import io
from spark_jobs.transforms.messages import as_bronze
from spark_jobs.transforms.parse import accepted, refused, with_record
from spark_jobs.transforms.settle import first_of_each_key


def land(contract: type[Record], settings: Settings) -> Callable[[DataFrame, int], None]:
    """The function that lands batches of an entity's stream."""
    bronze, silver, quarantine = (
        lake_table(settings.lake_root, layer, contract.entity) for layer in ("bronze", "silver", "quarantine")
    )

    def land_batch(source: DataFrame, batch: int) -> None:
        # the id lives in the checkpoint: a fresh checkpoint, which counts from 0 again, has a fresh one
        query_id = source.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")
        if query_id is None:
            raise CrmError("a batch without the id of its query cannot be made exact: this Spark does not tell it")
        # one file a core, instead of one a Kafka partition
        messages = as_bronze(source).coalesce(source.sparkSession.sparkContext.defaultParallelism).persist()
        try:
            fail_point(f"before_bronze:{contract.entity}", settings)
            io.append_once(messages, bronze, query_id, batch)
            fail_point(f"before_silver:{contract.entity}", settings)
            parsed = messages.transform(with_record, contract).persist()
            records = accepted(parsed, contract).transform(first_of_each_key, contract)
            io.insert_new_once(records, silver, contract.key, query_id, batch)
            fail_point(f"before_quarantine:{contract.entity}", settings)
            bad = refused(parsed)
            if not bad.isEmpty():
                io.append_once(bad, quarantine, query_id, batch)
            fail_point(f"before_checkpoint:{contract.entity}", settings)
            parsed.unpersist()
        finally:
            messages.unpersist()

    return land_batch
