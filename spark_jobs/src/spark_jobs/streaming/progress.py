"""What Spark tells of its queries, batch by batch, given to metrics and to the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pyspark.sql.streaming import StreamingQuery

from spark_jobs.streaming.figures import Landed
from spark_jobs.streaming.metrics import Metrics, lag_of

_log = logging.getLogger("crm-stream")


class Watch:
    """Looks at the queries, once a second or so, and tells each batch once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._told: dict[str, float] = {}

    def look(self, queries: Mapping[str, StreamingQuery]) -> None:
        """Tell of the batches since the last look."""
        for entity, query in queries.items():
            since = None
            for progress in map(_as_dict, query.recentProgress):
                at = datetime.fromisoformat(progress["timestamp"].replace("Z", "+00:00")).timestamp()
                if at <= self._told.get(entity, 0.0):
                    continue
                self._told[entity] = since = at
                self._metrics.progress(entity, progress)
                if progress["numInputRows"]:
                    self._tell(entity, progress)
            self._metrics.alive(entity, query.isActive, since)

    def _tell(self, entity: str, progress: dict[str, Any]) -> None:
        fields = {
            "entity": entity,
            "batch": progress["batchId"],
            "input_rows_per_second": progress.get("inputRowsPerSecond"),
            "processed_rows_per_second": progress.get("processedRowsPerSecond"),
            "milliseconds": progress.get("durationMs"),
            "lag": lag_of(progress),
        }
        _log.info("batch %d of %s is finished", progress["batchId"], entity, extra={"fields": fields})

    def landed(self, entity: str, landed: Landed) -> None:
        """Tell what a batch did."""
        self._metrics.landed(entity, landed)
        fields = {
            "entity": entity,
            "rows": landed.rows,
            "repeated": landed.repeated,
            "refused": dict(landed.refused),
            "future_dated": landed.future_dated,
            "remembered_keys": landed.remembered_keys,
            "seconds": {step: round(seconds, 3) for step, seconds in landed.seconds.items()},
        }
        _log.info("%d messages of %s landed", landed.rows, entity, extra={"fields": fields})


def _as_dict(progress: Any) -> dict[str, Any]:
    return dict(json.loads(progress.json)) if hasattr(progress, "json") else dict(progress)
