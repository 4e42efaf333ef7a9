"""Windows are sent once, whoever makes them, and again where nobody knows whether they were sent."""

from dataclasses import replace
from datetime import date

import polars as pl
import pytest

from data_generator.load.work import MASTERS, Piece, Recipe, blocks, master_windows, pieces, send, unfinished, window
from data_generator.sinks.files import FileSink, file_sink
from data_generator.world.config import DAY, HOUR, SECOND
from data_generator.world.load import EVERYDAY
from data_generator.world.records import Shop
from data_platform_core.contracts import GENERATED
from data_platform_core.errors import CrmError, UsageError
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import load_settings


class Kept:
    """A sink that keeps what it is given; fails at the nth flush if told to."""

    def __init__(self, fails_at=None):
        self.units, self.flushes, self._fails_at = [], 0, fails_at

    @staticmethod
    def prepare(unit, records):
        return records

    def check_faults(self, plan):
        pass

    @staticmethod
    def prepare_messages(unit, messages):
        return messages

    def put(self, unit, prepared):
        self.units.append((unit, prepared))

    def flush(self):
        self.flushes += 1
        if self.flushes == self._fails_at:
            raise CrmError("the broker is away")

    @property
    def records(self):
        return sum(len(records) for _, records in self.units)


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "made.jsonl")
    with ledger.writing():
        yield ledger


def sent(world, work, sink, ledger, workers=1):
    return send(Recipe.of(world, EVERYDAY, sink, ledger), work, sink, ledger, workers)


def day(world, ledger, first=date(2026, 3, 3), last=date(2026, 3, 3)):
    return pieces(ledger, blocks(world, *window(world, first, last)))


def test_a_window_sent_again_sends_nothing(world, ledger):
    first, second = Kept(), Kept()
    assert sent(world, day(world, ledger), first, ledger) == first.records > 0
    assert day(world, ledger) == []
    assert sent(world, day(world, ledger), second, ledger) == 0


def test_a_longer_window_sends_only_what_is_new(world, ledger):
    sent(world, day(world, ledger), Kept(), ledger)
    longer = Kept()
    sent(world, day(world, ledger, date(2026, 3, 2), date(2026, 3, 4)), longer, ledger)
    days = {world.day_of(unit.start) for unit, _ in longer.units}
    assert days == {date(2026, 3, 2), date(2026, 3, 4)}


def test_a_day_that_was_begun_in_part_is_filled_around_it(world, ledger):
    noon = world.midnight(date(2026, 3, 3)) + 12 * HOUR
    part = [Piece(("events", "orders"), noon, noon + 90 * SECOND)]
    kept = Kept()
    sent(world, part, kept, ledger)
    sent(world, day(world, ledger), kept, ledger)
    whole = Shop(world)
    for entity in GENERATED:
        made = pl.concat(records for unit, records in kept.units if unit.entity == entity)
        expected = whole.records(entity, noon - 12 * HOUR, noon + 12 * HOUR)
        assert made.sort(pl.all()).equals(expected.sort(pl.all()))
        assert ledger.made(entity).count == len(expected)


def test_what_failed_to_be_sent_is_unfinished_and_sent_again(world, ledger):
    with pytest.raises(CrmError, match="the broker is away"):
        sent(world, day(world, ledger), Kept(fails_at=1), ledger)
    assert ledger.made("events").count == 0
    again = Kept()
    assert sent(world, unfinished(world, again, ledger), again, ledger) == again.records > 0
    assert ledger.unfinished_units() == []


def test_a_ledger_of_another_world_is_refused(world, ledger):
    sent(world, day(world, ledger), Kept(), ledger)
    with pytest.raises(UsageError, match="the settings now say world"):
        unfinished(replace(world, seed=8), Kept(), ledger)


def test_large_days_are_made_in_parts_that_fit_into_memory(world):
    for a_day, parts in ((3_000, 1), (150_000, 2), (1_000_000, 12), (10_000_000, 24)):
        busy = replace(world, events_per_day=a_day)
        found = list(blocks(busy, date(2026, 3, 3), date(2026, 3, 4)))
        assert len(found) == parts
        assert found[0][0] == world.midnight(date(2026, 3, 3)) and found[-1][1] == found[0][0] + DAY


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
def test_any_number_of_workers_gives_the_same_files(world, tmp_path, kind):
    folders = []
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        sink = file_sink(load_settings(), str(folder), kind)
        ledger = Ledger(folder / "made.jsonl")
        with ledger.writing():
            masters = pieces(ledger, master_windows(world, world.midnight(date(2026, 3, 3))), MASTERS)
            work = [*masters, *day(world, ledger, last=date(2026, 3, 4))]
            sent(world, work, sink, ledger, workers)
        folders.append({str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob(f"*.{kind}")})
    assert folders[0] == folders[1]
    assert len(folders[0]) >= 4 * 2
    assert not list(tmp_path.rglob("*.half"))


def test_several_workers_send_in_the_order_of_time(world, ledger):
    kept = Kept()
    sent(world, day(world, ledger, last=date(2026, 3, 8)), kept, ledger, workers=3)
    starts = [unit.start for unit, _ in kept.units if unit.entity == "events"]
    assert starts == sorted(starts) and len(starts) == 6


def test_a_worker_that_is_killed_ends_with_one_sentence(world, ledger):
    with pytest.raises(CrmError, match=r"a worker was killed.*fewer --workers"):
        sent(world, day(world, ledger, last=date(2026, 3, 6)), Deadly(), ledger, workers=2)
    assert ledger.made("events").count == 0
    assert sent(world, unfinished(world, Kept(), ledger), Kept(), ledger) > 0


class Deadly(Kept):
    @staticmethod
    def prepare(unit, records):
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)


def test_files_hold_the_records_in_every_format(world, tmp_path):
    start = world.midnight(date(2026, 3, 3))
    expected = Shop(world).records("orders", start, start + DAY)
    read = {
        "ndjson": pl.read_ndjson,
        "csv": pl.read_csv,
        "parquet": pl.read_parquet,
    }
    for kind, reader in read.items():
        sink = file_sink(load_settings(), str(tmp_path / kind), kind)
        ledger = Ledger(tmp_path / kind / "made.jsonl")
        with ledger.writing():
            sent(world, [Piece(("orders",), start, start + DAY)], sink, ledger)
        (file,) = (tmp_path / kind / "orders").glob(f"*.{kind}")
        found = reader(file)
        assert found.columns == expected.columns
        assert found["order_id"].to_list() == expected["order_id"].to_list()
        assert found["total_minor"].sum() == expected["total_minor"].sum()
    assert isinstance(sink, FileSink)


@pytest.mark.parametrize(
    ("first", "last", "says"),
    [
        (date(2026, 2, 2), date(2026, 2, 1), "--to must not be before --from"),
        (date(2025, 2, 2), date(2026, 2, 2), "the shop opened on 2026-01-01"),
        (date(2026, 2, 2), date(2066, 2, 2), "the world's calendar ends"),
    ],
)
def test_an_impossible_window_is_refused(world, first, last, says):
    with pytest.raises(UsageError, match=says):
        window(world, first, last)
