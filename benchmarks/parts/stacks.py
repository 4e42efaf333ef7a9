"""A stack of a benchmark's own, gone afterwards, and what is asked of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_platform_core.contracts import ENTITIES
from data_platform_core.errors import CrmError
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import Settings, load_settings
from home_server.demo import has_landed


@contextmanager
def own_stack(settings: Settings, events_per_day: int, customers: int = 200_000) -> Iterator[Settings]:
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
        crm("up", "kafka", "minio", "postgres")
        yield load_settings()
    finally:
        subprocess.run([str(settings.home / "bin" / "crm"), "reset", "--yes"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def wait_until_landed(own: Settings, within_seconds: float = 1200) -> None:
    """Wait until the stream has finished all that Kafka has."""
    deadline = time.monotonic() + within_seconds
    while not all(has_landed(own, entity) for entity in ENTITIES):
        if time.monotonic() > deadline:
            raise CrmError("the backlog has not landed")
        time.sleep(0.5)


def check_events(own: Settings) -> None:
    """Hold silver against what was made; no figure counts where they differ."""
    digest = stores.silver_digest(own, "events")
    if digest != Ledger(own.ledger_file).made("events"):
        raise CrmError(f"silver holds {digest.count:,} events and not those that were made: no figure counts")


def crm(*words: str) -> None:
    """Run a command of `crm`."""
    program = str(Path(os.environ["CRM_HOME"]) / "bin" / "crm")
    done = subprocess.run([program, *words], capture_output=True, text=True)
    if done.returncode:
        raise CrmError(f"`crm {' '.join(words)}` failed: {done.stderr.strip()[-2000:]}")
