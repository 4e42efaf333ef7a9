"""What is told to Prometheus is what happened, and what rules and boards ask for is told."""

import json
import re
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from socket import socket

from prometheus_client.parser import text_string_to_metric_families

from spark_jobs.streaming.figures import Landed
from spark_jobs.streaming.metrics import Metrics
from spark_jobs.streaming.progress import Watch

WATCHED = Path(__file__).parents[3] / "home-server-infra" / "monitoring"
PROGRESS = {
    "runId": "r",
    "batchId": 7,
    "timestamp": "2026-11-20T09:00:00.500Z",
    "numInputRows": 120,
    "inputRowsPerSecond": 60.0,
    "processedRowsPerSecond": float("nan"),
    "durationMs": {"triggerExecution": 950, "addBatch": 700},
    "sources": [{"endOffset": '{"t": {"0": 10, "1": 5}}', "latestOffset": {"t": {"0": 12, "1": 5}}}],
}
LANDED = Landed(
    rows=120, accepted=117, repeated=2, refused={"wrong_type:sequence": 2, "wrong_type:device": 1}, future_dated=1,
    remembered_keys=500, remembered_bytes=8000, watermark=datetime(2026, 11, 20, 9, tzinfo=UTC), seconds={"silver": 0.4},
)  # fmt: skip


def served(metrics):
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    metrics.serve("127.0.0.1", port)
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    finally:
        metrics.close()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Query:
    isActive = True

    def __init__(self, *progress):
        self.recentProgress = list(progress)


def test_each_batch_is_told_once():
    metrics = Metrics()
    watch = Watch(metrics)
    query = Query(PROGRESS)
    for _ in range(3):
        watch.look({"events": query})
    watch.landed("events", LANDED)
    found = served(metrics)
    assert found["crm_stream_batch_seconds_count", "events"] == 1
    assert found["crm_stream_lag_messages", "0", "events"] == 2
    assert found["crm_stream_processed_rows_per_second", "events"] == 0
    assert found["crm_stream_refused_rows_total", "events", "wrong_type"] == 3
    assert found["crm_stream_repeated_rows_total", "events"] == 2
    assert found["crm_stream_query_running", "events"] == 1
    assert found["crm_stream_driver_resident_bytes",] > 10_000_000


def test_a_query_that_was_started_again_is_told_of_anew():
    metrics = Metrics()
    watch = Watch(metrics)
    watch.look({"events": Query(PROGRESS)})
    again = PROGRESS | {"runId": "another", "batchId": 7, "timestamp": "2026-11-20T09:01:00.500Z"}
    watch.look({"events": Query(again)})
    assert served(metrics)["crm_stream_batch_seconds_count", "events"] == 2


def test_a_look_that_found_nothing_is_no_batch():
    metrics = Metrics()
    watch = Watch(metrics)
    nothing = PROGRESS | {"batchId": 8, "numInputRows": 0, "timestamp": "2026-11-20T09:02:00.500Z"}
    watch.look({"events": Query(PROGRESS, nothing)})
    found = served(metrics)
    assert found["crm_stream_batch_seconds_count", "events"] == 1
    assert found["crm_stream_batch_number", "events"] == 7


def test_rules_and_board_ask_for_what_is_told():
    metrics = Metrics()
    watch = Watch(metrics)
    watch.look({"events": Query(PROGRESS)})
    watch.landed("events", LANDED)
    metrics.request("backfill", "done")
    told = {name for name, *_ in served(metrics)}
    asked = set()
    for file in ("rules/stream.yml", "boards/stream.json"):
        asked |= set(re.findall(r"crm_stream_\w+", (WATCHED / file).read_text()))
    assert len(asked) > 12
    assert asked <= told


def test_a_log_line_is_one_object(capsys):
    import logging

    from spark_jobs.streaming.log import JsonLines

    record = logging.LogRecord("crm-stream", logging.INFO, "", 0, "%d of %s", (3, "events"), None)
    record.fields = {"entity": "events"}
    words = json.loads(JsonLines().format(record))
    assert (words["message"], words["level"], words["entity"]) == ("3 of events", "INFO", "events")
    assert words["ts"].endswith("Z")
