"""The lake under load, on stacks of its own with all components running, each gone afterwards.

- A backlog of events, after everything else has landed: the rate is taken from the stream's own log, between the
  ends of its first batch and of its last; once clean, once with faults. What landed is held against what was made.
- Its start, from the process's birth to the end of its first batch; its memory.
- Files: ten million events; then the same backlog on a large table as on a small one.

Peers are `peers/lake.py`: the same Spark, the same topic or files, in the same run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from datetime import datetime
from typing import Any

import psutil
from parts.stacks import check_events, crm, own_stack, wait_until_landed
from rich.console import Console

from data_platform_core.errors import CrmError
from data_platform_core.ledger import stores
from data_platform_core.s3 import names_below, s3_client
from data_platform_core.settings import Settings
from home_server.benchmarks import Measure
from home_server.environment import process_environment
from home_server.places import ROOT, env_bin

DAYS = 10
EVENTS_PER_DAY = 200_000
FAULTS = {
    "seed": 5,
    "faults": [
        {"kind": kind, "share": 0.01, "entities": ["events"]}
        for kind in ("late", "duplicated", "truncated", "future_dated")
    ],
}
FILE_DAYS, LARGE_DAYS, EVENTS_PER_FILE_DAY = 10, 6, 1_000_000


def run(settings: Settings, console: Console) -> list[Measure]:
    """Measure all of it; takes about half an hour."""
    with own_stack(settings, EVENTS_PER_DAY) as own:
        clean = _backlog(own, console, None)
        clean["start"] = _start(own)
        crm("down", "stream")
        clean |= {kind: _peer(own, kind) for kind in ("raw", "parsed", "session")}
    with own_stack(settings, EVENTS_PER_DAY) as own:
        faulty = _backlog(own, console, FAULTS)
    measures = [
        Measure("backlog against parsed Parquet", clean["rate"], "1/s", clean["parsed"], "higher", 0.35, True),
        Measure("backlog against raw Parquet", clean["rate"], "1/s", clean["raw"], "higher"),
        Measure("backlog with faults against clean", faulty["rate"], "1/s", clean["rate"], "higher", 0.95, True),
        Measure("start to first batch, warm", clean["start"], "s", clean["session"], "lower", 15.0),
        Measure("memory of driver and Python", clean["memory"], "GiB", None, "lower", 2.0),
    ]
    with own_stack(settings, EVENTS_PER_FILE_DAY, customers=20_000) as own:
        measures += _files(own, console)
    return measures


# --- a backlog ---------------------------------------------------------------------------------


def _backlog(own: Settings, console: Console, faults: dict[str, Any] | None) -> dict[str, float]:
    words = ["generate", "backfill", "--from", "2026-10-01", "--to", f"2026-10-{DAYS:02d}", "--workers", "2"]
    if faults:
        plan = own.stack_dir / "faults.yaml"
        plan.write_text(json.dumps(faults))
        words += ["--faults", str(plan)]
    crm(*words)
    crm("up")
    wait_until_landed(own)
    _forget_landed_events(own)
    before = len(_batches(own))
    with _Memory(own) as memory:
        crm("up", "stream")
        wait_until_landed(own)
        rate = _rate(_batches(own)[before:])
    console.print(f"[dim]{'with faults' if faults else 'clean'}: {rate:,.0f} events a second[/dim]")
    check_events(own)
    return {"rate": rate, "memory": memory.largest / 2**30}


def _forget_landed_events(own: Settings) -> None:
    """Take the tables of events and their checkpoint away, so that their backlog is landed again by itself."""
    crm("down", "stream")
    client, bucket = s3_client(own), own.lake_root.removeprefix("s3a://")
    for folder in ("bronze/events", "silver/events", "quarantine/events", "checkpoints/events"):
        names = names_below(client, f"{own.lake_root}/{folder}")
        for start in range(0, len(names), 1000):
            some = [{"Key": name} for name in names[start : start + 1000]]
            client.delete_objects(Bucket=bucket, Delete={"Objects": some})


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
    crm("down", "stream")
    crm("generate", "live", "--tps", "50", "--for", "2s")
    before = len(_batches(own))
    crm("up", "stream")
    born = psutil.Process(int((own.stack_dir / "run" / "stream.pid").read_text())).create_time()
    wait_until_landed(own)
    return _batches(own)[before][0] - born


# --- files -------------------------------------------------------------------------------------


def _files(own: Settings, console: Console) -> list[Measure]:
    """A small table's backlog; ten million events by files; a large table's backlog."""
    crm("up")
    _send_day(own, 1)  # warm
    small = _send_day(own, 2)
    folder = own.stack_dir / "files"
    seconds, records = 0.0, 0
    for first, last in ((3, 2 + FILE_DAYS), (3 + FILE_DAYS, 2 + FILE_DAYS + LARGE_DAYS)):
        days = ["--from", f"2026-10-{first:02d}", "--to", f"2026-10-{last:02d}"]
        crm("generate", "backfill", *days, "--out", str(folder), "--workers", "2")
        before, started = stores.silver_digest(own, "events").count, time.monotonic()
        crm("backfill", "events", str(folder / "events"))
        if not seconds:
            seconds = time.monotonic() - started
            records = stores.silver_digest(own, "events").count - before
            crm("down", "stream")
            bare = _peer_told(own, "files", str(folder / "events"))
            crm("up", "stream")
            if bare["rows"] != records:
                raise CrmError(f"{records:,} events landed of files that hold {bare['rows']:,}: no figure counts")
        shutil.rmtree(folder)
    _send_day(own, 27)  # warm after its start
    large = _send_day(own, 28)
    rows = stores.silver_digest(own, "events").count
    console.print(f"[dim]{records:,} events by files; the large table has {rows:,}[/dim]")
    check_events(own)
    return [
        Measure(f"backfill of {records:,} events by files", seconds, "s", bare["seconds"], "lower", 2.0, True),
        Measure(f"cost of an event at {rows:,} rows", 1e6 / large, "µs", 1e6 / small, "lower", 1.2, True),
    ]


def _send_day(own: Settings, day: int) -> float:
    """Events a second at which a day's million lands, between the ends of its first batch and of its last."""
    crm("down", "stream")
    crm("generate", "backfill", "--from", f"2026-10-{day:02d}", "--to", f"2026-10-{day:02d}", "--workers", "2")
    before = len(_batches(own))
    crm("up", "stream")
    wait_until_landed(own)
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
