"""The lake under load, on a stack of its own: a backlog against bare Parquet, with faults, from the start, in memory.

The stream's rate is taken from its own log, between the end of its first batch (warm) and of its last; what
landed is held against what was made. Peers are `peers/lake.py`, in the same run on the same topic.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from data_platform_core.errors import CrmError
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import Settings, load_settings
from home_server.benchmarks import Measure
from home_server.demo import has_landed
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


def run(settings: Settings, console: Console) -> list[Measure]:
    """Measure on a stack of its own, gone afterwards."""
    clean = _on_a_stack(settings, console, None)
    faulty = _on_a_stack(settings, console, FAULTS)
    return [
        Measure("backlog against parsed Parquet", clean["rate"], "1/s", clean["parsed"], "higher", 0.35, True),
        Measure("backlog against raw Parquet", clean["rate"], "1/s", clean["raw"], "higher"),
        Measure("backlog with faults against clean", faulty["rate"], "1/s", clean["rate"], "higher", 0.95, True),
        Measure("start to first batch, warm", clean["start"], "s", clean["session"], "lower", 15.0),
        Measure("memory of driver and Python", clean["memory"], "GiB", None, "lower", 2.0),
    ]


def _on_a_stack(settings: Settings, console: Console, faults: dict[str, Any] | None) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=settings.home))
    os.environ |= {
        "CRM_HOME": str(settings.home),
        "CRM_STACK": str(folder),
        "CRM_PORT_OFFSET": "22000",
        "CRM_WORLD_CUSTOMERS": "200000",
        "CRM_WORLD_EVENTS_PER_DAY": str(EVENTS_PER_DAY),
    }
    try:
        _crm("up", "kafka", "minio", "postgres")
        words = ["generate", "backfill", "--from", "2026-10-01", "--to", f"2026-10-{DAYS:02d}", "--workers", "2"]
        if faults:
            (folder / "faults.yaml").write_text(json.dumps(faults))
            words += ["--faults", str(folder / "faults.yaml")]
        _crm(*words)
        own = load_settings()
        found: dict[str, float] = {}
        with _Memory(own) as memory:
            _crm("up", "stream")
            _wait_until_landed(own)
            found["rate"] = _rate(own)
        found["memory"] = memory.largest / 2**30
        console.print(f"[dim]{'with faults' if faults else 'clean'}: {found['rate']:,.0f} events a second[/dim]")
        digest = stores.silver_digest(own, "events")
        if digest != Ledger(own.ledger_file).made("events"):
            raise CrmError(f"silver holds {digest.count:,} events and not those that were made: no figure counts")
        if not faults:
            found["start"] = _start(own)
            _crm("down", "stream")
            found |= {kind: _peer(own, kind) for kind in ("raw", "parsed", "session")}
        return found
    finally:
        subprocess.run([str(settings.home / "bin" / "crm"), "reset", "--yes"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("CRM_STACK", "CRM_PORT_OFFSET", "CRM_WORLD_CUSTOMERS", "CRM_WORLD_EVENTS_PER_DAY"):
            os.environ.pop(name, None)


def _rate(own: Settings) -> float:
    batches = _batches(own)
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
    """Seconds from the application's start to the end of its first batch."""
    _crm("down", "stream")
    _crm("generate", "live", "--tps", "50", "--for", "2s")
    before, started = len(_batches(own)), time.time()
    _crm("up", "stream")
    _wait_until_landed(own)
    return _batches(own)[before][0] - started


def _peer(own: Settings, kind: str) -> float:
    env = process_environment(own)
    command = [env_bin(own, "spark", "python"), str(ROOT / "benchmarks" / "peers" / "lake.py"), kind]
    started = time.monotonic()
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise CrmError(f"the peer {kind} failed: {done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return told["rows"] / told["seconds"] if "rows" in told else time.monotonic() - started


def _wait_until_landed(own: Settings, within_seconds: float = 1200) -> None:
    deadline = time.monotonic() + within_seconds
    while not all(has_landed(own, entity) for entity in ("events", "orders", "products", "profiles")):
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
