"""Units are sent once, and again where nobody knows whether they were sent."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from data_generator.load.backfill import backfill_units
from data_generator.load.live import run_live
from data_generator.load.units import finish_unfinished, live_unit, send
from data_generator.world.config import SECOND
from data_platform_core.contracts import ENTITIES
from data_platform_core.errors import CrmError, UsageError
from data_platform_core.ledger.made import Ledger

NOON = 1_795_000_000


class Kept:
    """A sink that keeps what it is given; fails at the nth flush if told to."""

    def __init__(self, fails_at=None):
        self.tables, self.flushes, self._fails_at = [], 0, fails_at

    def put(self, entity, unit, table):
        self.tables.append((entity, unit, table))

    def flush(self):
        self.flushes += 1
        if self.flushes == self._fails_at:
            raise CrmError("the broker is away")


class FakeClock:
    """Time that passes only by waiting; stops after so many waits if told to."""

    def __init__(self, waits=None, from_second=0):
        self.time, self._waits = float(NOON + from_second), waits

    def now(self):
        return self.time

    def wait_until(self, at):
        self.time = max(self.time, at)
        if self._waits is None:
            return True
        self._waits -= 1
        return self._waits >= 0


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "made.jsonl")
    with ledger.writing():
        yield ledger


def test_a_backfill_sent_again_sends_nothing(world, ledger):
    units = backfill_units(world, date(2026, 1, 3), date(2026, 1, 4))
    first, second = Kept(), Kept()
    assert send(world, units, first, ledger) == sum(table.num_rows for *_, table in first.tables) > 0
    assert send(world, units, second, ledger) == 0
    assert second.tables == []


def test_a_longer_backfill_sends_only_what_is_new(world, ledger):
    send(world, backfill_units(world, date(2026, 1, 3), date(2026, 1, 4)), Kept(), ledger)
    longer = Kept()
    send(world, backfill_units(world, date(2026, 1, 3), date(2026, 1, 5)), longer, ledger)
    assert {unit[:10] for _, unit, _ in longer.tables} == {"2026-01-03", "2026-01-04"}  # hours are named in UTC
    assert len([unit for entity, unit, _ in longer.tables if entity == "events"]) == 24


def test_what_failed_to_be_sent_is_unfinished_and_sent_again(world, ledger):
    units = [live_unit(world, entity, NOON, 50.0) for entity in ENTITIES]
    with pytest.raises(CrmError, match="the broker is away"):
        send(world, units, Kept(fails_at=1), ledger)
    assert ledger.made("events").count == 0
    again = Kept()
    records = finish_unfinished(world, again, ledger)
    assert records == sum(table.num_rows for *_, table in again.tables) > 0
    assert ledger.unfinished_units() == []
    assert sum(ledger.made(entity).count for entity in ENTITIES) == records


def test_a_second_of_traffic_is_begun_whole_whatever_dies_within_it(world, ledger):
    class Dying(Kept):
        def put(self, entity, unit, table):
            raise KeyboardInterrupt

    run_live(world, 30.0, 1, Kept(), ledger, FakeClock())  # so that the masters of the days before are sent
    with pytest.raises(KeyboardInterrupt):
        run_live(world, 30.0, 1, Dying(), ledger, FakeClock(from_second=1))
    # otherwise a customer's sign-up would be an event without a profile for ever
    assert {unit.entity for unit in ledger.unfinished_units()} == set(ENTITIES)


def test_a_ledger_of_another_world_is_refused(world, ledger):
    send(world, [live_unit(world, "events", NOON, 50.0)], Kept(), ledger)
    with pytest.raises(UsageError, match="the settings now say world"):
        finish_unfinished(replace(world, seed=8), Kept(), ledger)


def test_live_sends_every_second_and_skips_none_after_a_stall(world, ledger):
    sink, clock = Kept(), FakeClock()
    run = run_live(world, 30.0, 5, sink, ledger, clock)
    assert (run.started_at, run.seconds) == (NOON + 1, 5)
    live = [table for _, unit, table in sink.tables if "T" in unit]  # without the masters of the days before
    assert run.records == sum(table.num_rows for table in live)
    seconds = sorted({int(at.timestamp()) for table in live for at in table["occurred_at"].to_pylist()})
    assert seconds == [NOON + 1 + n for n in range(5)]
    clock.time += 100  # a stall
    later = run_live(world, 30.0, 2, sink, ledger, clock)
    assert later.seconds == 2


def test_live_sends_the_masters_of_a_day_that_ends_within_it(world, ledger):
    sink, clock = Kept(), FakeClock()
    day = world.day_of(NOON * SECOND)
    clock.time = world.midnight(day) / SECOND - 3
    run_live(world, 30.0, 5, sink, ledger, clock)
    profiles = [unit for entity, unit, _ in sink.tables if entity == "profiles"]
    last_second = next(n for n, unit in enumerate(profiles) if unit.endswith("T14-59-59"))  # Seoul's midnight, in UTC
    assert profiles[last_second + 1] == str(day - timedelta(days=1))
    assert str(day) not in profiles


def test_live_stops_after_a_whole_second(world, ledger):
    run = run_live(world, 30.0, None, Kept(), ledger, FakeClock(waits=3))
    assert run.seconds == 3
    assert ledger.unfinished_units() == []


@pytest.mark.parametrize(
    ("first", "end", "says"),
    [
        (date(2026, 2, 2), date(2026, 2, 2), "--to must be after --from"),
        (date(2025, 2, 2), date(2026, 2, 2), "the shop opened on 2026-01-01"),
        (date(2026, 2, 2), date(2066, 2, 2), "the world's calendar ends"),
    ],
)
def test_an_impossible_window_is_refused(world, first, end, says):
    with pytest.raises(UsageError, match=says):
        backfill_units(world, first, end)
