"""A window of the world delivered again, faster or slower than it happened."""

from __future__ import annotations

from collections.abc import Callable

from data_generator.faults.plan import Plan
from data_generator.load.live import Clock
from data_generator.load.work import MASTERS_FIRST, Delivery, Maker, Piece, Recipe, send_masters
from data_generator.sinks import Sink
from data_generator.world.config import SECOND, World
from data_generator.world.load import Profile
from data_platform_core.ledger.made import Ledger

_MOST_TICKS_A_SECOND = 10


def run_replay(
    world: World,
    profile: Profile,
    start: int,
    end: int,
    speed: float,
    sink: Sink,
    ledger: Ledger,
    clock: Clock,
    plan: Plan | None = None,
    on_tick: Callable[[int, int], None] = lambda at, records: None,
) -> int:
    """Deliver [start, end) at `speed` seconds of the world a second; returns how many records that were.

    What of it was made before is sent again, with the faults that it had, and counted once by the ledger.
    """
    send_masters(Recipe.of(world, profile, sink, ledger), start, sink, ledger)
    step = max(int(speed / _MOST_TICKS_A_SECOND), 1) * SECOND
    recipe = Recipe.of(world, profile, sink, ledger, plan)
    maker, delivery = Maker(recipe), Delivery(sink, ledger)
    began, total, at = clock.now(), 0, start
    known = ledger.known()
    while at < end:
        until = min(at + step, end)
        if not clock.wait_until(began + (until - start) / SECOND / speed):
            break
        records = 0
        for entity in MASTERS_FIRST:
            for low, high, unit in known(entity, at, until):
                piece = Piece((entity,), low, high, unit.faults if unit else None)
                if unit is None:
                    delivery.begin(recipe.units(piece))
                made = maker(piece)
                delivery.deliver(made, unit is None)
                records += sum(each.digest.count for each in made)
        total += records
        on_tick(until, records)
        at = until
    delivery.finish()
    return total
