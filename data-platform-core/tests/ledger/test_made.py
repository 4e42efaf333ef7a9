"""The ledger knows what was made, whatever happened to the one who wrote it."""

import pytest

from data_platform_core.derive.canonical import Digest
from data_platform_core.errors import UsageError
from data_platform_core.ledger.made import Ledger, Unit

HOUR = Unit("events", "history", "2026-11-19T05", (("world", "w"), ("start", 1), ("end", 2)))


def test_what_was_sent_is_counted_once(tmp_path):
    ledger = Ledger(tmp_path / "made.jsonl")
    with ledger.writing():
        for _ in range(2):  # a unit that was sent again after a crash
            ledger.begin([HOUR])
            ledger.sent([(HOUR, Digest(3, 5, 7))])
    assert ledger.made("events") == Digest(3, 5, 7)
    assert ledger.made("orders") == Digest()


def test_a_unit_begun_and_not_sent_is_unfinished_with_its_words(tmp_path):
    ledger = Ledger(tmp_path / "made.jsonl")
    with ledger.writing():
        ledger.begin([HOUR])
    assert Ledger(tmp_path / "made.jsonl").unfinished_units() == [HOUR]
    with ledger.writing():
        ledger.sent([(HOUR, Digest(1, 1, 1))])
    assert ledger.unfinished_units() == []


def test_a_line_cut_short_by_a_crash_is_not_a_line(tmp_path):
    ledger = Ledger(tmp_path / "made.jsonl")
    with ledger.writing():
        ledger.begin([HOUR])
        ledger.sent([(HOUR, Digest(3, 5, 7))])
    with (tmp_path / "made.jsonl").open("a") as file:
        file.write('{"state": "sent", "units": [{"id": "history/orders/x", "count": 1}')
    assert ledger.made("events") == Digest(3, 5, 7)
    with ledger.writing():
        ledger.begin([HOUR])
    assert ledger.made("events") == Digest(3, 5, 7)
    assert len((tmp_path / "made.jsonl").read_text().splitlines()) == 3


def test_two_generators_at_once_are_refused(tmp_path):
    with Ledger(tmp_path / "made.jsonl").writing(), pytest.raises(UsageError, match="another generator"):
        with Ledger(tmp_path / "made.jsonl").writing():
            pass
