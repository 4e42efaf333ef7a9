"""The ledger knows what was made, whatever happened to the one who wrote it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_platform_core.derive.canonical import Digest
from data_platform_core.errors import CrmError, UsageError
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


@pytest.mark.parametrize("line", [b"{", b"\xff\xff"])
def test_a_damaged_line_is_named(tmp_path, line):
    ledger = Ledger(tmp_path / "made.jsonl")
    ledger.begin([HOUR])
    with ledger.path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(CrmError, match=r"made\.jsonl, line 2, is no line of a ledger"):
        ledger.made("events")


def test_a_ledger_is_held_while_somebody_writes_to_it(tmp_path):
    ledger = Ledger(tmp_path / "made.jsonl")
    assert not ledger.is_held()
    with ledger.writing():
        assert Ledger(ledger.path).is_held()
    assert not ledger.is_held()


def test_two_generators_at_once_are_refused(tmp_path):
    with Ledger(tmp_path / "made.jsonl").writing(), pytest.raises(UsageError, match="another generator"):
        with Ledger(tmp_path / "made.jsonl").writing():
            pass


def test_what_is_missing_is_what_was_never_begun(tmp_path):
    ledger = Ledger(tmp_path / "made.jsonl")
    with ledger.writing():
        ledger.begin([Unit("events", 10, 20, "w"), Unit("orders", 0, 50, "w"), Unit("events", 30, 40, "w")])
    missing = ledger.missing()
    assert missing("events", 0, 50) == [(0, 10), (20, 30), (40, 50)]
    assert missing("events", 12, 18) == []
    assert missing("events", 15, 35) == [(20, 30)]
    assert missing("events", 40, 60) == [(40, 60)]
    assert missing("orders", 0, 50) == []
    assert missing("profiles", 3, 4) == [(3, 4)]


SECOND = 1_000_000


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seconds=st.lists(
        st.tuples(
            st.integers(0, 7300), st.booleans(), st.sampled_from(["", "f"]), st.sampled_from(["events", "orders"])
        ),
        unique_by=lambda drawn: (drawn[0], drawn[3]),
        max_size=40,
    ),
    count=st.integers(0, 120_000),
)
def test_a_compact_ledger_knows_the_same(tmp_path, seconds, count):
    path = tmp_path / "made.jsonl"
    path.unlink(missing_ok=True)
    ledger = Ledger(path)
    for at, is_sent, faults, entity in seconds:
        unit = Unit(entity, at * SECOND, (at + 1) * SECOND, "w", faults)
        ledger.begin([unit])
        if is_sent:
            ledger.sent([(unit, Digest(count, at + 1, at + 2))])

    def known():
        missing = ledger.missing()
        whole = {entity: missing(entity, 0, 8000 * SECOND) for entity in ("events", "orders")}
        return whole, ledger.made("events"), ledger.made("orders"), set(ledger.unfinished_units()), ledger.worlds()

    before = known()
    ledger.compact()
    assert known() == before
    text = path.read_text() if path.exists() else ""
    ledger.compact()
    assert (path.read_text() if path.exists() else "") == text


def test_the_seconds_of_an_hour_become_one_unit_of_their_faults(tmp_path):
    ledger = Ledger(tmp_path / "made.jsonl")
    hours = [Unit("events", at * SECOND, (at + 1) * SECOND, "w", "f" * (at >= 5400)) for at in range(3590, 7200)]
    ledger.begin(hours)
    ledger.sent([(unit, Digest(10, 1, 1)) for unit in hours])
    ledger.compact()
    windows = [(unit.start // SECOND, unit.end // SECOND, unit.faults) for unit in ledger.begun_units()]
    assert windows == [(3590, 3600, ""), (3600, 5400, ""), (5400, 7200, "f")]
    assert [digest.count for digest in ledger.sent_units().values()] == [100, 18_000, 18_000]


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
