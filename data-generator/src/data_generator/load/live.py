"""Traffic by the wall clock: each second's records are sent as that second ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from data_generator.faults.plan import Plan
from data_generator.load import AfterStall
from data_generator.load.store import ProfileFile
from data_generator.load.work import MASTERS_FIRST, Delivery, Maker, Piece, Recipe, send_masters
from data_generator.sinks import Sink
from data_generator.world.config import SECOND, World
from data_generator.world.load import Change
from data_platform_core.errors import UsageError
from data_platform_core.ledger.made import Ledger

_STALL_SECONDS = 5


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
    rates: list[Change],
    seconds: int | None,
    sink: Sink,
    ledger: Ledger,
    load: ProfileFile,
    clock: Clock,
    after_stall: AfterStall = "catch-up",
    plan: Plan | None = None,
    on_second: Callable[[int, int], None] = lambda second, records: None,
) -> LiveRun:
    """Send traffic from the next full second on, for so many seconds or until stopped.

    `rates` is the load: changes at seconds after the start, the first at 0. Each is written to the profile as it
    comes into force, as is a rate that was asked for meanwhile; what is in the profile makes the run again. After a
    stall it catches up, or skips: the seconds missed are then ones without visitors beside the usual.

    Raises:
        UsageError: the clock is outside the world's calendar, or behind what was made.
    """
    now = int(clock.now())
    if not world.opened_at <= now * SECOND < world.closes_at:
        raise UsageError(
            f"the world's calendar goes from {world.opened_on} to {world.closes_on}, and now is not within it: "
            "CRM_WORLD_OPENED_ON says when the shop opens"
        )
    if max((unit.end for unit in ledger.begun_units()), default=0) > now * SECOND:
        raise UsageError(
            f"the ledger {load.path.parent} holds records of times to come: set this machine's clock right"
        )
    close_run(ledger, load)
    # visitors are customers and buy products, which must be known before; then those of the while that took
    recipe = Recipe.of(world, load.read(), sink, ledger)
    send_masters(recipe, now * SECOND, sink, ledger)
    first = int(clock.now()) + 1
    send_masters(recipe, first * SECOND, sink, ledger)
    todo = [replace(change, at=first + change.at) for change in rates]
    load.asked_for()  # of an earlier run
    profile = load.read()
    recipe = Recipe.of(world, profile, sink, ledger, plan)
    maker, delivery = Maker(recipe), Delivery(sink, ledger)
    second, begun, records = first, first, 0
    try:
        while seconds is None or second < first + seconds:
            if not clock.wait_until(second + 1):
                break
            due = [change for change in todo if change.at <= second]
            todo = todo[len(due) :]
            if (wish := load.asked_for()) is not None:
                due.append(Change(second, wish))
            if due:
                profile = load.append(*due)
            until = second + 1
            if after_stall == "skip" and clock.now() - until > _STALL_SECONDS:
                until = int(clock.now())
                usual = profile.changes[-1]
                pause = Change(second, 0.0, empties=True)
                profile = load.append(pause, replace(usual, at=until, ramp=0))
            maker.shop.profile = profile
            piece = Piece(MASTERS_FIRST, second * SECOND, until * SECOND)
            delivery.begin(recipe.units(piece))
            begun = until
            units = maker(piece)
            delivery.deliver(units)
            made = sum(unit.digest.count for unit in units)
            records += made
            on_second(until - first, made)
            second = until
            if second % 3600 == 0:
                ledger.compact()
    finally:
        load.append(Change(begun, None, empties=True))  # what was begun is sent again: it stays in the profile
    delivery.finish()
    return LiveRun(first, second - first, records)


def close_run(ledger: Ledger, load: ProfileFile) -> None:
    """End the load of a run that was killed, at the last second that it began."""
    profile = load.read()
    if profile.changes and profile.changes[-1].tps is not None:
        begun = (unit.end // SECOND for unit in ledger.begun_units() if unit.entity == "events")
        last = max((at for at in begun if at >= profile.changes[0].at), default=profile.changes[-1].at)
        load.append(Change(last, None, empties=True))


def change_rate(ledger: Ledger, load: ProfileFile, tps: float) -> None:
    """Let the live run that is going on have another rate, from its next second on.

    Raises:
        UsageError: no live run is going on.
    """
    changes = load.read().changes
    if not changes or changes[-1].tps is None or not ledger.is_held():  # the last run may have been killed
        raise UsageError("no live run is going on: start one with `crm generate live`")
    load.ask_for(tps)
