"""Live traffic by the wall clock: each second's records are sent as that second ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from data_generator.load.backfill import master_units
from data_generator.load.units import live_unit, send
from data_generator.sinks import Sink
from data_generator.world.config import SECOND, World
from data_platform_core.contracts import ENTITIES
from data_platform_core.ledger.made import Ledger


class Clock(Protocol):
    """Seconds since 1970, and waiting until then."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    def wait_until(self, at: float) -> bool:
        """Wait; False where the run was asked to stop meanwhile."""
        ...


@dataclass(frozen=True)
class LiveRun:
    """What a live run did: its first second, its seconds, its records."""

    started_at: int
    seconds: int
    records: int


def run_live(
    world: World,
    tps: float,
    seconds: int | None,
    sink: Sink,
    ledger: Ledger,
    clock: Clock,
    on_second: Callable[[int, int], None] = lambda second, records: None,
) -> LiveRun:
    """Send `tps` records a second from the next full second on, for so many seconds or until stopped.

    After a stall it catches up: no second is skipped. Its visitors are the customers of the days before, so the
    master data of those is sent first, and that of the ended day when midnight passes.
    """
    day = world.day_of(int(clock.now()) * SECOND)
    send(world, master_units(world, day), sink, ledger)
    first = int(clock.now()) + 1
    second, records = first, 0
    while seconds is None or second < first + seconds:
        if not clock.wait_until(second + 1):
            break
        if world.day_of(second * SECOND) > day:
            day = world.day_of(second * SECOND)
            send(world, master_units(world, day), sink, ledger)
        made = send(world, [live_unit(world, entity, second, tps) for entity in ENTITIES], sink, ledger)
        records += made
        on_second(second - first + 1, made)
        second += 1
    return LiveRun(first, second - first, records)
