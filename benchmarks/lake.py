"""The lake under load, on stacks of its own with all components running, each gone afterwards.

- A backlog of events, after everything else has landed, clean and with faults: the rate is taken from the stream's
  own log, between the ends of its first batch and of its last, the median of some rounds. What landed is held
  against what was made.
- Its start, from the process's birth to the end of its first batch; its memory.

Peers are `peers/lake.py`: the same Spark, the same topic, in the same run.
"""

from __future__ import annotations

import json
import threading
import time
from statistics import median
from typing import Any

import psutil
from parts.stacks import batches_of, check_events, crm, own_stack, peer_told, rate_of, up_and_quiet, wait_until_landed
from rich.console import Console

from data_platform_core.layers import LAYERS, checkpoint, lake_table
from data_platform_core.s3 import names_below, s3_client
from data_platform_core.settings import Settings
from home_server.benchmarks import Measure

DAYS = 10
ROUNDS = 3
EVENTS_PER_DAY = 200_000
FAULTS = {
    "seed": 5,
    "faults": [
        {"kind": kind, "share": 0.01, "entities": ["events"]}
        for kind in ("late", "duplicated", "truncated", "future_dated")
    ],
}


def run(settings: Settings, console: Console) -> list[Measure]:
    """Measure all of it; takes about twenty minutes."""
    with own_stack(settings, EVENTS_PER_DAY) as own:
        clean = _backlogs(own, console, None)
        start = _start(own)
        crm("down", "stream")
        session = _peer(own, "session")
    with own_stack(settings, EVENTS_PER_DAY) as own:
        faulty = _backlogs(own, console, FAULTS)
    rate = clean["rate"]
    return [
        Measure("backlog against parsed Parquet", rate, "1/s", clean["parsed"], "higher", 0.35, True),
        Measure("backlog against raw Parquet", rate, "1/s", clean["raw"], "higher"),
        Measure("backlog with faults against clean", faulty["rate"], "1/s", rate, "higher", 0.95, True),
        Measure("start to first batch, warm", start, "s", session, "lower", 15.0),
        Measure("memory of driver and Python", clean["memory"], "GiB", None, "lower", 2.0),
    ]


# --- a backlog ---------------------------------------------------------------------------------


def _backlogs(own: Settings, console: Console, faults: dict[str, Any] | None) -> dict[str, float]:
    """Medians of some rounds: the backlog's rate, its largest memory, and, of the clean one, its peers' rates."""
    words = ["generate", "backfill", "--from", "2026-10-01", "--to", f"2026-10-{DAYS:02d}", "--workers", "2"]
    if faults:
        plan = own.stack_dir / "faults.yaml"
        plan.write_text(json.dumps(faults))
        words += ["--faults", str(plan)]
    crm(*words)
    up_and_quiet(own)
    wait_until_landed(own)
    rounds = []
    for _ in range(ROUNDS):
        found = _backlog(own)
        if not faults:
            crm("down", "stream")
            found |= {kind: _peer(own, kind) for kind in ("raw", "parsed")}
        rounds.append(found)
        told = ", ".join(f"{name} {value:,.1f}" for name, value in found.items())
        console.print(f"[dim]{'with faults' if faults else 'clean'}: {told}[/dim]")
    return {name: median(one[name] for one in rounds) for name in rounds[0]}


def _backlog(own: Settings) -> dict[str, float]:
    _forget_landed_events(own)
    before = len(batches_of(own))
    with _Memory(own) as memory:
        crm("up", "stream")
        wait_until_landed(own)
        rate = rate_of(batches_of(own)[before:])
    check_events(own)
    return {"rate": rate, "memory": memory.largest / 2**30}


def _forget_landed_events(own: Settings) -> None:
    """Take the tables of events and their checkpoint away, so that their backlog is landed again by itself."""
    crm("down", "stream")
    client = s3_client(own)
    tables = [lake_table(own.lake_root, layer, "events") for layer in LAYERS]
    for address in (*tables, checkpoint(own.lake_root, "events")):
        names = names_below(client, address)
        for start in range(0, len(names), 1000):
            some = [{"Key": name} for name in names[start : start + 1000]]
            client.delete_objects(Bucket=own.s3_bucket, Delete={"Objects": some})


def _start(own: Settings) -> float:
    """Seconds from the birth of the application's process to the end of its first batch of events."""
    crm("down", "stream")
    crm("generate", "live", "--tps", "50", "--for", "2s")
    before = len(batches_of(own))
    crm("up", "stream")
    born = psutil.Process(int((own.stack_dir / "run" / "stream.pid").read_text())).create_time()
    wait_until_landed(own)
    return batches_of(own)[before][0] - born


def _peer(own: Settings, kind: str) -> float:
    """Rows a second of a peer; seconds of a bare session."""
    started = time.monotonic()
    told = peer_told(own, kind)
    return told["rows"] / told["seconds"] if "rows" in told else time.monotonic() - started


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
