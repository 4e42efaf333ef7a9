"""The lake fed by files, on a stack of its own with all components running: ten million events against bare Parquet,
and then a day's backlog by Kafka on the large table as on the small one before.
"""

from __future__ import annotations

import shutil
import time

from parts.stacks import batches_of, check_events, crm, own_stack, peer_told, rate_of, up_and_quiet, wait_until_landed
from rich.console import Console

from data_platform_core.errors import CrmError
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import Settings
from home_server.benchmarks import Measure

FILE_DAYS, LARGE_DAYS, EVENTS_PER_DAY = 10, 6, 1_000_000


def run(settings: Settings, console: Console) -> list[Measure]:
    """Measure both; takes about a quarter of an hour."""
    with own_stack(settings, EVENTS_PER_DAY, customers=20_000) as own:
        return _files(own, console)


def _files(own: Settings, console: Console) -> list[Measure]:
    """A small table's backlog; ten million events by files; a large table's backlog."""
    up_and_quiet(own)
    _send_day(own, 1)  # warm
    small = _send_day(own, 2)
    folder = own.stack_dir / "files"
    seconds, records, made = 0.0, 0, []
    for first, last in ((3, 2 + FILE_DAYS), (3 + FILE_DAYS, 2 + FILE_DAYS + LARGE_DAYS)):
        days = ["--from", f"2026-10-{first:02d}", "--to", f"2026-10-{last:02d}"]
        crm("generate", "backfill", *days, "--out", str(folder), "--workers", "2")
        before, started = stores.silver_digest(own, "events").count, time.monotonic()
        crm("backfill", "events", str(folder / "events"))
        if not seconds:
            seconds = time.monotonic() - started
            records = stores.silver_digest(own, "events").count - before
            crm("down", "stream")
            bare = peer_told(own, "files", str(folder / "events"))
            crm("up", "stream")
            if bare["rows"] != records:
                raise CrmError(f"{records:,} events landed of files that hold {bare['rows']:,}: no figure counts")
        made.append(Ledger(folder / "made.jsonl").made("events"))
        shutil.rmtree(folder)
    _send_day(own, 27)  # warm after its start
    large = _send_day(own, 28)
    rows = stores.silver_digest(own, "events").count
    console.print(f"[dim]{records:,} events by files; the large table has {rows:,}[/dim]")
    check_events(own, made)
    return [
        Measure(f"backfill of {records:,} events by files", seconds, "s", bare["seconds"], "lower", 2.0, True),
        Measure(f"cost of an event at {rows:,} rows", 1e6 / large, "µs", 1e6 / small, "lower", 1.2, True),
    ]


def _send_day(own: Settings, day: int) -> float:
    """Events a second at which a day's million lands, between the ends of its first batch and of its last."""
    crm("down", "stream")
    crm("generate", "backfill", "--from", f"2026-10-{day:02d}", "--to", f"2026-10-{day:02d}", "--workers", "2")
    before = len(batches_of(own))
    crm("up", "stream")
    wait_until_landed(own)
    return rate_of(batches_of(own)[before:])
