"""Traffic by the wall clock holds the records of its profile, whatever happens to the one who sends it."""

import pytest
from test_work import Kept

from data_generator.encode import digest_of
from data_generator.load.live import change_rate, close_run, run_live
from data_generator.load.replay import run_replay
from data_generator.load.store import ProfileFile
from data_generator.load.work import Recipe, send, unfinished
from data_generator.world.config import DAY, SECOND
from data_generator.world.load import Change
from data_generator.world.records import Shop
from data_platform_core.contracts import GENERATED
from data_platform_core.derive.canonical import Digest
from data_platform_core.errors import CrmError, UsageError
from data_platform_core.ledger.made import Ledger

NOON = 1_772_593_200  # 2026-03-04 12:00 in Seoul


class FakeClock:
    """Time that passes only by waiting; calls `at[n]` before the nth wait, and stops after so many if told to."""

    def __init__(self, waits=None, at=None):
        self.time, self.waited, self._waits, self._at = float(NOON), 0, waits, at or {}

    def now(self):
        return self.time

    def wait_until(self, at):
        self._at.get(self.waited, lambda: None)()
        self.waited += 1
        self.time = max(self.time, at)
        return self._waits is None or self.waited <= self._waits


@pytest.fixture
def load(tmp_path):
    return ProfileFile(tmp_path / "load.jsonl")


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "made.jsonl")
    with ledger.writing():
        yield ledger


def live(world, ledger, load, sink=None, clock=None, seconds=30, tps=50.0, **more):
    return run_live(world, [Change(0, tps)], seconds, sink or Kept(), ledger, load, clock or FakeClock(), **more)


def check_made_again(world, ledger, load):
    """What the ledger has is what the world holds, under the profile that the run has left."""
    for entity in GENERATED:
        units = [unit for unit in ledger.begun_units() if unit.entity == entity]
        shop = Shop(world, load.read())
        assert sum((digest_of(entity, shop.records(entity, u.start, u.end)) for u in units), Digest()) == ledger.made(
            entity
        )


def test_live_sends_every_second_and_what_came_before_it(world, ledger, load):
    sink = Kept()
    run = live(world, ledger, load, sink)
    assert (run.started_at, run.seconds) == (NOON + 1, 30)
    visits = [unit for unit, _ in sink.units if unit.entity == "events"]
    assert [unit.start // SECOND for unit in visits] == [NOON + 1 + n for n in range(30)]
    assert run.records == pytest.approx(30 * 50, rel=0.15)
    assert ledger.missing()("profiles", world.opened_at, (NOON + 31) * SECOND) == []
    check_made_again(world, ledger, load)


def test_a_run_holds_the_same_records_backfilled_or_replayed(world, ledger, load, tmp_path):
    live(world, ledger, load)
    start, end = (NOON + 1) * SECOND, (NOON + 31) * SECOND
    sink, other = Kept(), Ledger(tmp_path / "replayed.jsonl")
    with other.writing():
        run_replay(world, load.read(), start, end, 20.0, sink, other, FakeClock())
    for entity in ("events", "orders"):
        assert other.made(entity) == ledger.made(entity)
    again = Kept()
    before = {entity: ledger.made(entity) for entity in GENERATED}
    run_replay(world, load.read(), start, end, 7.0, again, ledger, FakeClock())
    assert again.records > 1000
    assert {entity: ledger.made(entity) for entity in GENERATED} == before, "a replay was counted twice"


def test_a_change_of_rate_takes_effect_and_the_run_stays_reproducible(world, ledger, load):
    clock = FakeClock()
    clock._at = {20: lambda: change_rate(ledger, load, 200.0)}
    by_second = {}
    live(world, ledger, load, clock=clock, seconds=60, on_second=lambda n, made: by_second.setdefault(n, made))
    assert sum(by_second[n] for n in range(5, 20)) == pytest.approx(15 * 50, rel=0.2)
    assert sum(by_second[n] for n in range(22, 60)) == pytest.approx(38 * 200, rel=0.1)
    assert load.read().changes[1] == Change(NOON + 1 + 20, 200.0)
    check_made_again(world, ledger, load)
    with pytest.raises(UsageError, match="no live run is going on"):
        change_rate(ledger, load, 10.0)


def test_a_killed_run_has_no_rate_to_change(world, load, tmp_path):
    load.append(Change(NOON, 50.0))
    ledger = Ledger(tmp_path / "made.jsonl")
    with pytest.raises(UsageError, match="no live run is going on"):
        change_rate(ledger, load, 10.0)
    with ledger.writing():
        change_rate(ledger, load, 10.0)
    assert (load.asked_for(), load.asked_for()) == (10.0, None)


def test_a_run_whose_sink_failed_is_finished_with_the_records_that_were_put(world, ledger, load):
    failing = Kept(fails_at=30)
    with pytest.raises(CrmError, match="the broker is away"):
        live(world, ledger, load, failing)
    put = {unit: records for unit, records in failing.units if unit in ledger.unfinished_units()}
    assert len(put) == len(GENERATED)
    again = Kept()
    send(Recipe.of(world, load.read(), again, ledger), unfinished(world, again, ledger), again, ledger)
    for unit, records in again.units:
        assert records.equals(put[unit])
    check_made_again(world, ledger, load)


@pytest.mark.parametrize("after_stall", ["catch-up", "skip"])
def test_after_a_stall_it_catches_up_or_skips(world, ledger, load, after_stall):
    clock = FakeClock()

    def stall():
        clock.time += 60

    clock._at = {10: stall}
    sink = Kept()
    run = live(world, ledger, load, sink, clock, seconds=80, after_stall=after_stall)
    assert run.seconds == 80
    stalled = [unit for unit, _ in sink.units if unit.entity == "events" and unit.end - unit.start > SECOND]
    assert len(stalled) == (after_stall == "skip")
    expected = 80 * 50 if after_stall == "catch-up" else 20 * 50
    assert run.records == pytest.approx(expected, rel=0.25)
    check_made_again(world, ledger, load)


def test_live_stops_after_a_whole_second(world, ledger, load):
    run = live(world, ledger, load, clock=FakeClock(waits=3), seconds=None)
    assert run.seconds == 3
    assert ledger.unfinished_units() == []
    assert load.read().changes[-1] == Change(NOON + 4, None, empties=True)


def test_a_second_is_begun_whole_and_a_killed_run_is_ended_where_it_was(world, ledger, load):
    class Dying(Kept):
        def flush(self):
            super().flush()
            if any(unit.entity == "events" for unit, _ in self.units):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live(world, ledger, load, Dying())
    # otherwise a customer's sign-up would be an event without a profile for ever
    assert {unit.entity for unit in ledger.unfinished_units()} == set(GENERATED)
    lines = load.path.read_text().splitlines()
    load.path.write_text(lines[0] + "\n" + lines[1][:-5])  # what a kill leaves
    assert [piece.entities[0] for piece in unfinished(world, Kept(), ledger)]
    close_run(ledger, load)
    assert load.read().changes == (Change(NOON + 1, 50.0), Change(NOON + 2, None, empties=True))


def test_masters_of_a_day_that_ends_within_a_run_are_sent(world, ledger, load):
    clock = FakeClock()
    clock.time = world.midnight(world.day_of((NOON + DAY // SECOND) * SECOND)) / SECOND - 5
    live(world, ledger, load, clock=clock, seconds=10)
    assert ledger.missing()("profiles", world.opened_at, int(clock.time) * SECOND) == []


def test_a_clock_that_went_back_is_refused(world, ledger, load):
    live(world, ledger, load)
    clock = FakeClock()
    clock.time -= 3600
    with pytest.raises(UsageError, match="set this machine's clock right"):
        live(world, ledger, load, clock=clock)


@pytest.mark.parametrize("line", [b'{"when": 2}', b"\xff\xfe"])
def test_a_profile_that_somebody_damaged_is_named(load, line):
    load.path.write_bytes(b'{"at": 1, "tps": 5}\n' + line + b"\n")
    with pytest.raises(CrmError, match="line 2, is no change of the load"):
        load.read()
