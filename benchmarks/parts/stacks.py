"""A stack of a benchmark's own, gone afterwards, and what is asked of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from data_platform_core.contracts import ENTITIES
from data_platform_core.derive.canonical import Digest
from data_platform_core.errors import CrmError
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import Settings, load_settings
from home_server.airflow_api import AirflowApi
from home_server.demo import has_landed
from home_server.environment import process_environment
from home_server.places import ROOT, env_bin


@contextmanager
def own_stack(
    settings: Settings,
    events_per_day: int,
    customers: int = 200_000,
    components: Sequence[str] = ("kafka", "minio", "postgres"),
) -> Iterator[Settings]:
    """A stack with its stores up; gives its settings, which the environment has for the block, too."""
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
        crm("up", *components)
        yield load_settings()
    finally:
        subprocess.run([str(settings.home / "bin" / "crm"), "reset", "--yes"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def up_and_quiet(own: Settings) -> None:
    """Bring all components up, and have Airflow run nothing of its own while something is measured."""
    crm("up")
    airflow = AirflowApi(own)
    for dag in sorted(file.stem for file in (ROOT / "dags").glob("*.py")):
        airflow.wait_for_dag(dag)
        airflow.pause(dag)


def wait_until_landed(own: Settings, within_seconds: float = 1200) -> None:
    """Wait until the stream has finished all that Kafka has."""
    deadline = time.monotonic() + within_seconds
    while not all(has_landed(own, entity) for entity in ENTITIES):
        if time.monotonic() > deadline:
            raise CrmError("the backlog has not landed")
        time.sleep(0.5)


def check_events(own: Settings, and_of_files: Sequence[Digest] = ()) -> None:
    """Hold silver against what was made; no figure counts where they differ."""
    digest = stores.silver_digest(own, "events")
    if digest != sum(and_of_files, Ledger(own.ledger_file).made("events")):
        raise CrmError(f"silver holds {digest.count:,} events and not those that were made: no figure counts")


def crm(*words: str) -> None:
    """Run a command of `crm`."""
    program = str(Path(os.environ["CRM_HOME"]) / "bin" / "crm")
    done = subprocess.run([program, *words], capture_output=True, text=True)
    if done.returncode:
        raise CrmError(f"`crm {' '.join(words)}` failed: {done.stderr.strip()[-2000:]}")


def rate_of(batches: list[tuple[float, int]]) -> float:
    """Messages a second, between the ends of the first batch and of the last."""
    if len(batches) < 3:
        raise CrmError(f"{len(batches)} batches are too few for a rate")
    rows = sum(rows for _, rows in batches[1:])
    return rows / (batches[-1][0] - batches[0][0])


def batches_of(own: Settings) -> list[tuple[float, int]]:
    """When each batch of events had landed, and its messages."""
    found = []
    for line in (own.stack_dir / "logs" / "stream.log").read_text().splitlines():
        if '"entity": "events"' in line and " landed" in line:
            words = json.loads(line)
            if words["rows"]:
                found.append((datetime.fromisoformat(words["ts"]).timestamp(), int(words["rows"])))
    return found


def peer_told(own: Settings, *words: str) -> dict[str, float]:
    """Run `peers/lake.py`; returns what it tells."""
    command = [env_bin(own, "spark", "python"), str(ROOT / "benchmarks" / "peers" / "lake.py"), *words]
    done = subprocess.run(command, env=process_environment(own), capture_output=True, text=True)
    if done.returncode:
        raise CrmError(f"the peer {words[0]} failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
