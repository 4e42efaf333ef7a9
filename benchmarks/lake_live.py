"""The lake under live traffic, on a stack of its own with all components running.

From a record's event time to the commit (by the store's own clock) of the version of silver that has it; the floor is
a bare Spark append of the raw messages (`peers/lake.py`), in the same run.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from parts.stacks import check_events, crm, own_stack, up_and_quiet, wait_until_landed
from rich.console import Console

from data_platform_core.contracts import CONTRACTS, ENTITIES
from data_platform_core.layers import lake_table
from data_platform_core.s3 import folder_of, place_of, s3_client
from data_platform_core.settings import Settings
from home_server.benchmarks import Measure
from home_server.environment import process_environment
from home_server.places import ROOT, env_bin

LIVE_SECONDS, FLOOR_SECONDS = 600, 120
RATES = (100, 3000)


def run(settings: Settings, console: Console) -> list[Measure]:
    """Measure at each rate; takes about half an hour."""
    with own_stack(settings, 200_000) as own:
        up_and_quiet(own)
        return [measure for rate in RATES for measure in _live(own, console, rate)]


def _live(own: Settings, console: Console, rate: int) -> list[Measure]:
    crm("down", "stream")
    floor = _floor(own, rate)
    crm("up", "stream")
    wait_until_landed(own)
    since = time.time()
    crm("generate", "live", "--tps", str(rate), "--for", f"{LIVE_SECONDS}s")
    wait_until_landed(own)
    found = {entity: _latencies(own, entity, since) for entity in ENTITIES}
    check_events(own)
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
            crm("generate", "live", "--tps", str(rate), "--for", f"{FLOOR_SECONDS}s")
            time.sleep(10)
        finally:
            peer.terminate()
            peer.wait()
            ready.unlink(missing_ok=True)

    def of_file(file: pq.ParquetFile) -> list[tuple[str, float]]:
        values = [json.loads(value) for value in file.read(["value"])["value"].to_pylist()]
        return [(one["event_id"], datetime.fromisoformat(one["occurred_at"]).timestamp()) for one in values]

    found = _commits_of(own, address, since, of_file)
    return np.array([late for _, late in found])


def _latencies(own: Settings, entity: str, since: float) -> np.ndarray:
    """Event time and seconds until it was visible in silver, of each record that occurred since."""
    key = CONTRACTS[entity].key

    def of_file(file: pq.ParquetFile) -> list[tuple[Any, float]]:
        rows = file.read([*key, "occurred_at"])
        at = rows["occurred_at"].cast(pa.int64()).to_numpy() / 1e6
        return list(zip(zip(*(rows[name].to_pylist() for name in key), strict=True), at.tolist(), strict=True))

    found = _commits_of(own, lake_table(own.lake_root, "silver", entity), since, of_file)
    return np.array(found).reshape(-1, 2)


def _commits_of(
    own: Settings, address: str, since: float, of_file: Callable[[pq.ParquetFile], list[tuple[Any, float]]]
) -> list[tuple[float, float]]:
    """Of each record: when it occurred, and how much later the store had the first version of the table with it."""
    client = s3_client(own)
    bucket, prefix = folder_of(f"{address}/_delta_log")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    commits = [one for page in pages for one in page.get("Contents", ()) if one["Key"].endswith(".json")]
    found, seen = [], set()
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
