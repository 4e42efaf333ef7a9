"""The ledger knows what was made, whatever happened to the one who wrote it."""

import pytest

from data_platform_core.derive.canonical import Digest
from data_platform_core.errors import UsageError
from data_platform_core.ledger.made import Ledger, Unit

HOUR = Unit("events", 3_600_000_000, 7_200_000_000, "w")


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


def test_what_is_missing_is_what_was_never_begun(tmp_path):
    ledger = Ledger(tmp_path / "made.jsonl")
    with ledger.writing():
        ledger.begin([Unit("events", 10, 20, "w"), Unit("orders", 0, 50, "w"), Unit("events", 30, 40, "w")])
    missing = ledger.missing("events")
    assert missing(0, 50) == [(0, 10), (20, 30), (40, 50)]
    assert missing(12, 18) == []
    assert missing(15, 35) == [(20, 30)]
    assert missing(40, 60) == [(40, 60)]
    assert ledger.missing("orders")(0, 50) == []
    assert ledger.missing("profiles")(3, 4) == [(3, 4)]


def test_units_of_a_group_are_begun_together_or_not_at_all(tmp_path):
    ledger = Ledger(tmp_path / "made.jsonl")
    with ledger.writing():
        ledger.begin([HOUR, Unit("orders", 3_600_000_000, 7_200_000_000, "w")])
    text = (tmp_path / "made.jsonl").read_text()
    for cut in range(1, len(text)):
        (tmp_path / "made.jsonl").write_text(text[:-cut])
        assert ledger.begun_units() == []


@pytest.mark.parametrize(
    "line",
    [
        '{"state": "begun", "entity": "events", "kind": "live", "name": "x", "words": {}}',
        '{"state": "begun", "units": [{"entity": "events", "kind": "live", "name": "x", "words": {}}]}',
    ],
)
def test_a_ledger_of_an_earlier_version_is_refused(tmp_path, line):
    (tmp_path / "made.jsonl").write_text(line + "\n")
    with pytest.raises(UsageError, match="begin anew with `crm reset`"):
        Ledger(tmp_path / "made.jsonl").worlds()
