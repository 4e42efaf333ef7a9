"""The lake under load, on stacks of its own with all components running, each gone afterwards.

- A backlog of events, after everything else has landed: the rate is taken from the stream's own log, between the
  ends of its first batch and of its last; once clean, once with faults. What landed is held against what was made.
- Its start, from the process's birth to the end of its first batch; its memory.
- Live traffic: event time to the commit (the store's own time) of the version of silver that has the record.
- Files: ten million events; then the same backlog on a large table as on a small one.

Peers are `peers/lake.py`: the same Spark, the same topic or files, in the same run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from data_platform_core.contracts import CONTRACTS
from data_platform_core.errors import CrmError
from data_platform_core.layers import lake_table
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.s3 import folder_of, names_below, place_of, s3_client
from data_platform_core.settings import Settings, load_settings
from home_server.benchmarks import Measure
from home_server.demo import has_landed
from home_server.environment import process_environment
from home_server.places import ROOT, env_bin

ENTITIES = ("events", "orders", "products", "profiles")
DAYS = 10
EVENTS_PER_DAY = 200_000
FAULTS = {
    "seed": 5,
    "faults": [
        {"kind": kind, "share": 0.01, "entities": ["events"]}
        for kind in ("late", "duplicated", "truncated", "future_dated")
    ],
}
LIVE_SECONDS, FLOOR_SECONDS = 600, 120
RATES = (100, 3000)
FILE_DAYS, LARGE_DAYS, EVENTS_PER_FILE_DAY = 10, 6, 1_000_000


def run(settings: Settings, console: Console) -> list[Measure]:
    """Measure all of it; takes about an hour."""
    with _stack(settings) as own:
        clean = _backlog(own, console, None)
        clean["start"] = _start(own)
        _crm("down", "stream")
        clean |= {kind: _peer(own, kind) for kind in ("raw", "parsed", "session")}
    with _stack(settings) as own:
        faulty = _backlog(own, console, FAULTS)
    measures = [
        Measure("backlog against parsed Parquet", clean["rate"], "1/s", clean["parsed"], "higher", 0.35, True),
        Measure("backlog against raw Parquet", clean["rate"], "1/s", clean["raw"], "higher"),
        Measure("backlog with faults against clean", faulty["rate"], "1/s", clean["rate"], "higher", 0.95, True),
        Measure("start to first batch, warm", clean["start"], "s", clean["session"], "lower", 15.0),
        Measure("memory of driver and Python", clean["memory"], "GiB", None, "lower", 2.0),
    ]
    with _stack(settings) as own:
        _crm("up")
        for rate in RATES:
            measures += _live(own, console, rate)
    with _stack(settings, EVENTS_PER_FILE_DAY, customers=20_000) as own:
        measures += _files(own, console)
    return measures


@contextmanager
def _stack(settings: Settings, events_per_day: int = EVENTS_PER_DAY, customers: int = 200_000) -> Iterator[Settings]:
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=settings.home))
    words = {
        "CRM_HOME": str(settings.home),
        "CRM_STACK": str(folder),
        "CRM_PORT_OFFSET": "22000",
        "CRM_WORLD_CUSTOMERS": str(customers),
        "CRM_WORLD_EVENTS_PER_DAY": str(events_per_day),
    }
    before = {name: os.environ.get(name) for name in words}
    os.environ |= words
    try:
        _crm("up", "kafka", "minio", "postgres")
        yield load_settings()
    finally:
        subprocess.run([str(settings.home / "bin" / "crm"), "reset", "--yes"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


# --- a backlog ---------------------------------------------------------------------------------


def _backlog(own: Settings, console: Console, faults: dict[str, Any] | None) -> dict[str, float]:
    words = ["generate", "backfill", "--from", "2026-10-01", "--to", f"2026-10-{DAYS:02d}", "--workers", "2"]
    if faults:
        plan = own.stack_dir / "faults.yaml"
        plan.write_text(json.dumps(faults))
        words += ["--faults", str(plan)]
    _crm(*words)
    _crm("up")
    _wait_until_landed(own)
    _forget_landed_events(own)
    before = len(_batches(own))
    with _Memory(own) as memory:
        _crm("up", "stream")
        _wait_until_landed(own)
        rate = _rate(_batches(own)[before:])
    console.print(f"[dim]{'with faults' if faults else 'clean'}: {rate:,.0f} events a second[/dim]")
    _check(own)
    return {"rate": rate, "memory": memory.largest / 2**30}


def _forget_landed_events(own: Settings) -> None:
    """Take the tables of events and their checkpoint away, so that their backlog is landed again by itself."""
    _crm("down", "stream")
    client, bucket = s3_client(own), own.lake_root.removeprefix("s3a://")
    for folder in ("bronze/events", "silver/events", "quarantine/events", "checkpoints/events"):
        names = names_below(client, f"{own.lake_root}/{folder}")
        for start in range(0, len(names), 1000):
            some = [{"Key": name} for name in names[start : start + 1000]]
            client.delete_objects(Bucket=bucket, Delete={"Objects": some})


def _check(own: Settings) -> None:
    digest = stores.silver_digest(own, "events")
    if digest != Ledger(own.ledger_file).made("events"):
        raise CrmError(f"silver holds {digest.count:,} events and not those that were made: no figure counts")


def _rate(batches: list[tuple[float, int]]) -> float:
    if len(batches) < 3:
        raise CrmError(f"{len(batches)} batches are too few for a rate")
    rows = sum(rows for _, rows in batches[1:])
    return rows / (batches[-1][0] - batches[0][0])


def _batches(own: Settings) -> list[tuple[float, int]]:
    """When each batch of events had landed, and its messages."""
    found = []
    for line in (own.stack_dir / "logs" / "stream.log").read_text().splitlines():
        if '"entity": "events"' in line and " landed" in line:
            words = json.loads(line)
            if words["rows"]:
                found.append((datetime.fromisoformat(words["ts"]).timestamp(), int(words["rows"])))
    return found


def _start(own: Settings) -> float:
    """Seconds from the birth of the application's process to the end of its first batch of events."""
    _crm("down", "stream")
    _crm("generate", "live", "--tps", "50", "--for", "2s")
    before = len(_batches(own))
    _crm("up", "stream")
    born = psutil.Process(int((own.stack_dir / "run" / "stream.pid").read_text())).create_time()
    _wait_until_landed(own)
    return _batches(own)[before][0] - born


# --- live traffic ------------------------------------------------------------------------------


def _live(own: Settings, console: Console, rate: int) -> list[Measure]:
    _crm("down", "stream")
    floor = _floor(own, rate)
    _crm("up", "stream")
    _wait_until_landed(own)
    since = time.time()
    _crm("generate", "live", "--tps", str(rate), "--for", f"{LIVE_SECONDS}s")
    _wait_until_landed(own)
    found = {entity: _latencies(own, entity, since) for entity in ENTITIES}
    _check(own)
    quick = np.concatenate([found["events"], found["orders"]])
    masters = np.concatenate([found["products"], found["profiles"]])
    at, late = quick[:, 0], quick[:, 1]
    minutes = [late[(at >= since + start) & (at < since + start + 60)] for start in (60, LIVE_SECONDS - 60)]
    console.print(f"[dim]live at {rate}/s: {len(quick):,} events and orders, {len(masters):,} masters[/dim]")
    return [
        *[
            Measure(f"visible at {rate}/s, p{p}", _percentile(late, p), "s", _percentile(floor, p), "lower", bar)
            for p, bar in ((50, None), (95, 5.0))
        ],
        Measure(f"masters visible at {rate}/s, p95", _percentile(masters[:, 1], 95), "s", None, "lower", 60.0),
        Measure(
            f"visible at {rate}/s, p50 of the last minute against the second",
            _percentile(minutes[1], 50), "s", _percentile(minutes[0], 50), "lower", 1.5, True,
        ),
    ]  # fmt: skip


def _percentile(values: np.ndarray, percent: int) -> float:
    return float(np.percentile(values, percent))


def _floor(own: Settings, rate: int) -> np.ndarray:
    """The latencies of a bare Spark append of raw JSON."""
    address = f"{own.lake_root}/peer/floor-{rate}"
    ready, env = own.stack_dir / "floor.ready", process_environment(own)
    command = [env_bin(own, "spark", "python"), str(ROOT / "benchmarks" / "peers" / "lake.py"), "floor", address]
    with (own.stack_dir / "logs" / "floor.log").open("w") as log:
        peer = subprocess.Popen([*command, str(ready)], env=env, stdout=log, stderr=log)
        try:
            while not ready.exists() and peer.poll() is None:
                time.sleep(0.5)
            since = time.time()
            _crm("generate", "live", "--tps", str(rate), "--for", f"{FLOOR_SECONDS}s")
            time.sleep(10)
        finally:
            peer.terminate()
            peer.wait()
            ready.unlink(missing_ok=True)

    def of_file(file: pq.ParquetFile) -> list[tuple[str, float]]:
        values = [json.loads(value) for value in file.read(["value"])["value"].to_pylist()]
        return [(one["event_id"], datetime.fromisoformat(one["occurred_at"]).timestamp()) for one in values]

    found = _commits_of(own, address, since, set(), of_file)
    return np.array([late for _, late in found])


def _latencies(own: Settings, entity: str, since: float) -> np.ndarray:
    """Event time and seconds until it was visible in silver, of each record that occurred since."""
    key = CONTRACTS[entity].key

    def of_file(file: pq.ParquetFile) -> list[tuple[Any, float]]:
        rows = file.read([*key, "occurred_at"])
        at = rows["occurred_at"].cast(pa.int64()).to_numpy() / 1e6
        return list(zip(zip(*(rows[name].to_pylist() for name in key), strict=True), at.tolist(), strict=True))

    return np.array(_commits_of(own, lake_table(own.lake_root, "silver", entity), since, set(), of_file))


def _commits_of(
    own: Settings,
    address: str,
    since: float,
    seen: set[Any],
    of_file: Callable[[pq.ParquetFile], list[tuple[Any, float]]],
) -> list[tuple[float, float]]:
    """Of each record: when it occurred, and how much later the store had the first version of the table with it."""
    client = s3_client(own)
    bucket, prefix = folder_of(f"{address}/_delta_log")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    commits = [one for page in pages for one in page.get("Contents", ()) if one["Key"].endswith(".json")]
    found = []
    for commit in sorted(commits, key=lambda one: one["Key"]):
        visible = commit["LastModified"].timestamp()
        if visible < since:
            continue
        actions = map(json.loads, client.get_object(Bucket=bucket, Key=commit["Key"])["Body"].read().splitlines())
        for path in (action["add"]["path"] for action in actions if "add" in action):
            _, key = place_of(f"{address}/{unquote(path)}")
            body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
            for name, occurred in of_file(pq.ParquetFile(pa.BufferReader(body))):
                if occurred >= since and name not in seen:
                    seen.add(name)
                    found.append((occurred, visible - occurred))
    return found


# --- files -------------------------------------------------------------------------------------


def _files(own: Settings, console: Console) -> list[Measure]:
    """A small table's backlog; ten million events by files; a large table's backlog."""
    _crm("up")
    _send_day(own, 1)  # warm
    small = _send_day(own, 2)
    folder = own.stack_dir / "files"
    seconds, records = 0.0, 0
    for first, last in ((3, 2 + FILE_DAYS), (3 + FILE_DAYS, 2 + FILE_DAYS + LARGE_DAYS)):
        days = ["--from", f"2026-10-{first:02d}", "--to", f"2026-10-{last:02d}"]
        _crm("generate", "backfill", *days, "--out", str(folder), "--workers", "2")
        before, started = stores.silver_digest(own, "events").count, time.monotonic()
        _crm("backfill", "events", str(folder / "events"))
        if not seconds:
            seconds = time.monotonic() - started
            records = stores.silver_digest(own, "events").count - before
            _crm("down", "stream")
            bare = _peer_told(own, "files", str(folder / "events"))
            _crm("up", "stream")
            if bare["rows"] != records:
                raise CrmError(f"{records:,} events landed of files that hold {bare['rows']:,}: no figure counts")
        shutil.rmtree(folder)
    _send_day(own, 27)  # warm after its start
    large = _send_day(own, 28)
    rows = stores.silver_digest(own, "events").count
    console.print(f"[dim]{records:,} events by files; the large table has {rows:,}[/dim]")
    _check(own)
    return [
        Measure(f"backfill of {records:,} events by files", seconds, "s", bare["seconds"], "lower", 2.0, True),
        Measure(f"cost of an event at {rows:,} rows", 1e6 / large, "µs", 1e6 / small, "lower", 1.2, True),
    ]


def _send_day(own: Settings, day: int) -> float:
    """Events a second at which a day's million lands, between the ends of its first batch and of its last."""
    _crm("down", "stream")
    _crm("generate", "backfill", "--from", f"2026-10-{day:02d}", "--to", f"2026-10-{day:02d}", "--workers", "2")
    before = len(_batches(own))
    _crm("up", "stream")
    _wait_until_landed(own)
    return _rate(_batches(own)[before:])


# --- what they share ---------------------------------------------------------------------------


def _peer(own: Settings, kind: str) -> float:
    """Rows a second of a peer; seconds of a bare session."""
    started = time.monotonic()
    told = _peer_told(own, kind)
    return told["rows"] / told["seconds"] if "rows" in told else time.monotonic() - started


def _peer_told(own: Settings, *words: str) -> dict[str, float]:
    command = [env_bin(own, "spark", "python"), str(ROOT / "benchmarks" / "peers" / "lake.py"), *words]
    done = subprocess.run(command, env=process_environment(own), capture_output=True, text=True)
    if done.returncode:
        raise CrmError(f"the peer {words[0]} failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _wait_until_landed(own: Settings, within_seconds: float = 1200) -> None:
    deadline = time.monotonic() + within_seconds
    while not all(has_landed(own, entity) for entity in ENTITIES):
        if time.monotonic() > deadline:
            raise CrmError("the backlog has not landed")
        time.sleep(0.5)


class _Memory:
    """The largest resident memory of the streaming application within the block."""

    def __init__(self, own: Settings) -> None:
        self._file = own.stack_dir / "run" / "stream.pid"
        self.largest = 0
        self._ended = threading.Event()

    def __enter__(self) -> _Memory:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            try:
                process = psutil.Process(int(self._file.read_text()))
                family = [process, *process.children(recursive=True)]
                self.largest = max(self.largest, sum(each.memory_info().rss for each in family))
            except (OSError, ValueError, psutil.Error):
                continue


def _crm(*words: str) -> None:
    program = str(Path(os.environ["CRM_HOME"]) / "bin" / "crm")
    done = subprocess.run([program, *words], capture_output=True, text=True)
    if done.returncode:
        raise CrmError(f"`crm {' '.join(words)}` failed: {done.stderr.strip()[-2000:]}")
