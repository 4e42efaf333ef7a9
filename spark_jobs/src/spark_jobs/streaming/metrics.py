"""What the streaming application tells Prometheus."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from spark_jobs.streaming.figures import Landed

_BATCH_SECONDS = (0.5, 1, 2, 3, 5, 8, 13, 21, 34, 60, 120)


class Metrics:
    """The figures of all queries; served over HTTP until `close`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._close: Any = lambda: None

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"crm_stream_{name}", text, labels, registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"crm_stream_{name}", text, labels, registry=self.registry)

        self._input = gauge("input_rows_per_second", "Messages that arrive, as the last batch saw it.", "entity")
        self._processed = gauge("processed_rows_per_second", "Messages landed a second of the last batch.", "entity")
        self._lag = gauge("lag_messages", "Messages that Kafka has and no finished batch.", "entity", "partition")
        self._batch = gauge("batch_number", "The last finished batch.", "entity")
        self._at = gauge("last_progress_timestamp_seconds", "When the last batch began.", "entity")
        self._running = gauge("query_running", "Whether the query runs.", "entity")
        self._phase = gauge(
            "batch_phase_seconds", "How long the last batch was at a phase of Spark's.", "entity", "phase"
        )
        self._step = gauge("batch_step_seconds", "How long the last batch was at a step of landing.", "entity", "step")
        self._keys = gauge("remembered_keys", "Keys remembered to notice repeats.", "entity")
        self._bytes = gauge("remembered_bytes", "Memory that they take.", "entity")
        self._watermark = gauge("watermark_timestamp_seconds", "Latest event time that landed, capped.", "entity")
        self._seconds = Histogram(
            "crm_stream_batch_seconds",
            "How long batches took.",
            ["entity"],
            registry=self.registry,
            buckets=_BATCH_SECONDS,
        )
        self._rows = counter("rows", "Messages landed in bronze.", "entity")
        self._accepted = counter("accepted_rows", "Messages that keep their contract.", "entity")
        self._repeated = counter("repeated_rows", "Accepted messages whose record silver had.", "entity")
        self._future = counter("future_dated_rows", "Accepted messages dated ahead of their arrival.", "entity")
        self._refused = counter("refused_rows", "Messages in quarantine.", "entity", "reason")
        self._requests = counter("requests", "Requests carried out.", "kind", "state")
        memory = gauge("driver_resident_bytes", "Memory of this process and of the JVM it drives.")
        memory.set_function(_resident_bytes)

    def landed(self, entity: str, landed: Landed) -> None:
        """Count what a batch did."""
        self._rows.labels(entity).inc(landed.rows)
        self._accepted.labels(entity).inc(landed.accepted)
        self._repeated.labels(entity).inc(landed.repeated)
        self._future.labels(entity).inc(landed.future_dated)
        for reason, count in landed.refused.items():
            self._refused.labels(entity, reason.partition(":")[0]).inc(count)
        self._keys.labels(entity).set(landed.remembered_keys)
        self._bytes.labels(entity).set(landed.remembered_bytes)
        if landed.watermark:
            self._watermark.labels(entity).set(landed.watermark.timestamp())
        for step, seconds in landed.seconds.items():
            self._step.labels(entity, step).set(seconds)

    def progress(self, entity: str, progress: Mapping[str, Any]) -> None:
        """Take what Spark tells of a query's last batch (`StreamingQuery.lastProgress`)."""
        self._input.labels(entity).set(_finite(progress.get("inputRowsPerSecond")))
        self._processed.labels(entity).set(_finite(progress.get("processedRowsPerSecond")))
        for partition, messages in lag_of(progress).items():
            self._lag.labels(entity, partition).set(messages)
        if not progress["numInputRows"]:
            return  # a look that found nothing is no batch
        self._batch.labels(entity).set(progress["batchId"])
        durations = progress.get("durationMs", {})
        for phase, milliseconds in durations.items():
            self._phase.labels(entity, phase).set(milliseconds / 1000)
        if "triggerExecution" in durations:
            self._seconds.labels(entity).observe(durations["triggerExecution"] / 1000)

    def alive(self, entity: str, is_running: bool, since: float | None) -> None:
        """Say whether a query runs, and when its last batch began (seconds since 1970)."""
        self._running.labels(entity).set(is_running)
        if since is not None:
            self._at.labels(entity).set(since)

    def request(self, kind: str, state: str) -> None:
        """Count a request."""
        self._requests.labels(kind, state).inc()

    def serve(self, host: str, port: int) -> None:
        """Serve the figures over HTTP.

        Raises:
            OSError: the port is taken.
        """
        server, thread = start_http_server(port, addr=host, registry=self.registry)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join(5)

        self._close = close

    def close(self) -> None:
        """Serve no more."""
        threading.Thread(target=self._close, daemon=True).start()


def lag_of(progress: Mapping[str, Any]) -> dict[str, int]:
    """Messages that Kafka has and no finished batch, by partition, as a query's progress tells."""
    lag: dict[str, int] = {}
    for source in progress.get("sources", ()):
        ends, latest = (_offsets(source.get(name)) for name in ("endOffset", "latestOffset"))
        lag |= {partition: max(0, offset - ends.get(partition, 0)) for partition, offset in latest.items()}
    return lag


def _offsets(told: Any) -> dict[str, int]:
    """Offsets by partition out of a source's `{topic: {partition: offset}}`, which may be text."""
    words = json.loads(told) if isinstance(told, str) else told
    return {partition: int(offset) for topic in (words or {}).values() for partition, offset in topic.items()}


def _finite(number: Any) -> float:
    found = float(number or 0)
    return found if found == found and abs(found) != float("inf") else 0.0


def _resident_bytes() -> float:
    """Resident memory of this process and of its children, of which one is Spark's JVM."""
    total = 0
    me = Path("/proc/self")
    try:
        children = (me / "task" / str(int(me.readlink().name)) / "children").read_text().split()
        for folder in [me, *(Path("/proc") / child for child in children)]:
            total += int((folder / "statm").read_text().split()[1]) * 4096
    except (OSError, ValueError, IndexError):
        return float(total)
    return float(total)
