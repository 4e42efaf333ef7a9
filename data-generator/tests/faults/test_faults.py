"""Faults are seeded, told one by one with what should become of them, and leave the rest of the world as it is."""

import json
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_generator.encode import lines_of
from data_generator.faults.inject import Injector
from data_generator.faults.plan import Plan, kept_plan, read_plan
from data_generator.load.replay import run_replay
from data_generator.load.work import Delivery, Made, Maker, Piece, Recipe, pieces, send, send_masters, unfinished
from data_generator.manifest import manifest
from data_generator.messages import Delayed, Messages, messages_of
from data_generator.sinks.files import file_sink
from data_generator.world.config import DAY, HOUR, SECOND
from data_generator.world.load import EVERYDAY
from data_generator.world.records import Shop
from data_platform_core.contracts import CONTRACTS, GENERATED
from data_platform_core.derive.canonical import Digest
from data_platform_core.errors import CrmError, UsageError
from data_platform_core.ledger.made import Ledger, Unit
from data_platform_core.settings import load_settings

EVERY_KIND = (
    {"kind": "late", "mean_seconds": 3600.0},
    {"kind": "duplicated", "copies": 3},
    {"kind": "reordered", "by": 5},
    {"kind": "truncated"},
    {"kind": "wrong_type"},
    {"kind": "wrong_encoding"},
    {"kind": "oversize"},
    {"kind": "added_field"},
    {"kind": "version_2"},
    {"kind": "version_2_incompatible"},
    {"kind": "future_dated"},
    {"kind": "clock_skew"},
    {"kind": "unknown_reference"},
)
PLAN = Plan.model_validate({"seed": 5, "faults": [{"share": 0.05, **fault} for fault in EVERY_KIND]})


@pytest.fixture(scope="module")
def start(world):
    return world.midnight(date(2026, 10, 28))


@pytest.fixture(scope="module", params=GENERATED)
def injected(request, world, start):
    entity = request.param
    unit = Unit(entity, start, start + 5 * DAY, world.id)
    records = Shop(world).records(entity, start, start + 5 * DAY)
    return unit, records, Injector(PLAN)


class FakeClock:
    """Time that passes at once."""

    def now(self):
        return 0.0

    def wait_until(self, at):
        return True


def told(messages):
    return [json.loads(line) for line in messages.faults]


def test_what_is_told_is_what_happens(injected):
    unit, records, injector = injected
    contract = CONTRACTS[unit.entity]
    messages = injector.messages(unit, records)
    faults = told(messages)
    if unit.entity == "events":
        kinds = Counter(fault["fault"] for fault in faults)
        assert set(kinds) == {fault["kind"] for fault in EVERY_KIND}
        assert kinds.pop("unknown_reference") / records["product_id"].count() == pytest.approx(0.05, rel=0.4)
        assert all(0.03 < count / len(records) < 0.07 for count in kinds.values())
    good, bad = [], 0
    for value in [*messages.values, *(late.value for late in messages.delayed)]:
        try:
            good.append(contract.read(value))
        except (ValidationError, UnicodeDecodeError):
            bad += 1
    assert bad == sum(fault["expected"].startswith("quarantine: ") for fault in faults)
    copies = sum(fault.get("copies", 1) - 1 for fault in faults)
    assert len(good) == len(records) - bad + copies
    assert len({tuple(getattr(r, k) for k in contract.key) for r in good}) == len(records) - bad


def test_the_digest_is_of_what_silver_should_hold(injected):
    unit, records, injector = injected
    key = CONTRACTS[unit.entity].key
    expected = injector.expected(unit, records)
    faults = told(injector.messages(unit, records))
    refused = {tuple(fault["key"]) for fault in faults if fault["expected"] != "silver"}
    assert refused
    assert expected.select(key).rows() == [row for row in records.select(key).rows() if row not in refused]


def test_a_record_has_the_same_fault_whatever_window_it_is_made_in(injected, world):
    unit, records, injector = injected
    whole = set(injector.messages(unit, records).faults)
    parts = set()
    for day in range(5):
        low, high = unit.start + day * DAY, unit.start + (day + 1) * DAY
        part = Unit(unit.entity, low, high, unit.world)
        made = Shop(world).records(unit.entity, low, high)
        parts |= set(injector.messages(part, made).faults)
    assert parts == whole


def test_each_fault_does_what_it_says(injected):
    unit, records, injector = injected
    contract, key = CONTRACTS[unit.entity], CONTRACTS[unit.entity].key
    clean, at = messages_of(unit, records).values, records["occurred_at"]
    place = {row: n for n, row in enumerate(records.select(key).rows())}
    messages = injector.messages(unit, records)
    positions = defaultdict(list)
    for position, value in enumerate(messages.values):
        positions[value].append(position)
    found = {tuple(getattr(r, name) for name in key): r for v in messages.values if (r := readable(contract, v))}
    faults = {tuple(fault["key"]): fault for fault in told(messages)}
    faulty = {place[row] for row in faults}
    delays = []
    for row, fault in faults.items():
        n = place[row]
        here = positions[clean[n]]
        if fault["fault"] == "late":
            (late,) = [message for message in messages.delayed if message.value == clean[n]]
            assert not here and late.due - at.to_physical()[n] == pytest.approx(fault["seconds"] * SECOND, abs=1000)
            delays.append(fault["seconds"])
        elif fault["fault"] == "duplicated":
            assert len(here) == fault["copies"] == 3
        elif fault["fault"] == "reordered":
            after = [m for m in range(n + 1, min(n + 6, len(records))) if m not in faulty]
            assert all(positions[clean[m]][0] < here[0] for m in after)
        elif fault["fault"] == "clock_skew":
            assert not here and 0 < abs((found[row].occurred_at - at[n]).total_seconds()) <= 300
        elif fault["fault"] == "unknown_reference":
            assert not here and "_" + "0" * 16 in found[row].model_dump_json()
    kinds = {fault["fault"] for fault in faults.values()}
    assert ("unknown_reference" in kinds) == (unit.entity in ("events", "orders"))
    if unit.entity == "events":
        assert {"late", "duplicated", "reordered", "clock_skew"} <= kinds
        assert np.mean(delays) == pytest.approx(3600, rel=0.3) and np.std(delays) > 1800


def readable(contract, value):
    try:
        return contract.read(value)
    except (ValidationError, UnicodeDecodeError):
        return None


def test_a_replay_of_what_was_made_has_the_faults_that_it_had(world, start, tmp_path):
    hour = Piece(("events",), start, start + HOUR)
    for made_with, replayed_with in ((PLAN, None), (None, PLAN)):
        folder = tmp_path / ("faults" if made_with else "clean")
        folder.mkdir()
        ledger, first, again = Ledger(folder / "made.jsonl"), Line(), Line()
        with ledger.writing():
            masters = Recipe.of(world, EVERYDAY, Line(), ledger)
            send_masters(masters, start + HOUR, Line(), ledger)
            send(Recipe.of(world, EVERYDAY, first, ledger, made_with), [hour], first, ledger)
            send(Recipe.of(world, EVERYDAY, Line(), ledger), pieces(ledger, [(start, start + HOUR)]), Line(), ledger)
            clock = FakeClock()
            run_replay(world, EVERYDAY, start, start + HOUR, 3600.0, again, ledger, clock, replayed_with)
        assert set(first.values) <= set(again.values)
        told_of = folder / "faults.jsonl"
        assert told_of.exists() == (made_with is not None)


kinds = st.sampled_from([fault["kind"] for fault in EVERY_KIND])
plans = st.builds(
    lambda seed, faults: Plan.model_validate({"seed": seed, "faults": faults}),
    st.integers(0, 2**40),
    st.lists(
        st.builds(
            lambda kind, share, entities: {"kind": kind, "share": share, "entities": entities},
            kinds,
            st.floats(0.001, 0.25),
            st.sets(st.sampled_from(GENERATED), min_size=1),
        ),
        max_size=4,
    ),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans)
def test_whatever_the_plan_every_record_is_delivered_or_told_to_be_refused(injected, plan):
    unit, records, _ = injected
    injector, key = Injector(plan), CONTRACTS[unit.entity].key
    messages, expected = injector.messages(unit, records), injector.expected(unit, records)
    faults = told(messages)
    copies = sum(fault.get("copies", 1) - 1 for fault in faults)
    assert len(messages.values) + len(messages.delayed) == len(records) + copies
    assert len(messages.keys) == len(messages.values)
    refused = sorted(tuple(fault["key"]) for fault in faults if fault["expected"] != "silver")
    assert sorted([*expected.select(key).rows(), *refused]) == sorted(records.select(key).rows())
    delivered = [*messages.values, *(message.value for message in messages.delayed)]
    sent = Counter(value.replace(b',"loyalty_hint":"gold"', b"") for value in delivered)
    assert not [line for line in lines_of(unit.entity, expected) if not sent[line]]


def test_without_faults_nothing_is_changed(injected):
    unit, records, *_ = injected
    none = Injector(Plan(seed=5))
    assert none.expected(unit, records).equals(records)
    assert none.messages(unit, records) == messages_of(unit, records)


class Line:
    """A sink that keeps the messages in the order in which they come."""

    def __init__(self):
        self.values = []

    prepare = staticmethod(messages_of)

    @staticmethod
    def prepare_messages(unit, messages):
        return messages

    def check_faults(self, plan):
        pass

    def put(self, unit, prepared):
        self.values += prepared.values

    def put_delayed(self, entity, message):
        self.values.append(message.value)

    def flush(self):
        pass


def sending(world, plan, tmp_path):
    """All that sends with a plan: ledger, sink, recipe, maker, delivery."""
    ledger, sink = Ledger(tmp_path / "made.jsonl"), Line()
    recipe = Recipe.of(world, EVERYDAY, sink, ledger, plan)
    return ledger, sink, recipe, Maker(recipe), Delivery(sink, ledger)


def test_late_records_come_later_and_their_window_is_not_sent_before(world, start, tmp_path):
    plan = Plan.model_validate(
        {"faults": [{"kind": "late", "share": 0.2, "entities": ["events"], "mean_seconds": 7200.0}]}
    )
    ledger, sink, recipe, maker, delivery = sending(world, plan, tmp_path)
    days = [Piece(("events",), start + n * DAY, start + (n + 1) * DAY) for n in range(2)]
    with ledger.writing():
        delivery.begin(recipe.units(days[0]))
        (first,) = maker(days[0])
        delivery.deliver([first])
        late = [d for d in first.prepared.delayed if d.due >= days[0].end]
        assert late and first.unit in ledger.unfinished_units()
        delivery.begin(recipe.units(days[1]))
        delivery.deliver(maker(days[1]))
        assert first.unit not in ledger.unfinished_units()
        delivery.finish()
        assert ledger.unfinished_units() == []
    whole = [
        v for day in days for v in messages_of(unit_of(day), Shop(world).records("events", day.start, day.end)).values
    ]
    assert sorted(sink.values) == sorted(whole) and sink.values != whole
    assert len((tmp_path / "faults.jsonl").read_text().splitlines()) > 0.1 * len(whole)


def test_late_records_of_a_window_sent_again_are_counted_once(world, start, tmp_path):
    plan = Plan.model_validate({"faults": [{"kind": "late", "share": 0.5, "distribution": "uniform"}]})
    ledger, sink, recipe, maker, delivery = sending(world, plan, tmp_path)
    day, hour = Piece(("events",), start, start + DAY), Piece(("events",), start, start + HOUR)
    with ledger.writing():
        send(recipe, [day], sink, ledger)
        before, sent = ledger.made("events"), ledger.sent_units()
        delivery.deliver(maker(hour), is_new=False)
        delivery.finish()
    assert ledger.made("events") == before and ledger.sent_units() == sent


def test_what_comes_late_is_known_as_sent_whatever_it_comes_with(world, start, tmp_path):
    plan = Plan.model_validate({"faults": [{"kind": "late", "share": 0.5, "mean_seconds": 5.0, "max_seconds": 60.0}]})
    ledger, _, recipe, maker, delivery = sending(world, plan, tmp_path)
    hours = [Piece(("events",), start + n * HOUR, start + (n + 1) * HOUR) for n in range(2)]
    with ledger.writing():
        delivery.begin(recipe.units(hours[0]))
        delivery.deliver(maker(hours[0]))
        delivery.deliver(maker(hours[1]), is_new=False)
        delivery.finish()
    assert [unit.start for unit in ledger.begun_units()] == [hours[0].start]
    assert ledger.unfinished_units() == []


def test_messages_that_are_due_at_once_come_in_their_order(tmp_path):
    unit, sink = Unit("events", 0, SECOND, "w"), Line()
    delivery = Delivery(sink, Ledger(tmp_path / "made.jsonl"))
    late = [Delayed(due, b"k", str(n).encode()) for n, due in enumerate([1, 1, 5 * SECOND, 5 * SECOND, 5 * SECOND])]
    for half in (late[:3], late[3:]):
        delivery.deliver([Made(unit, Messages([], [], half), Digest())], is_new=False)
    delivery.finish()
    assert sink.values == [b"0", b"1", b"2", b"3", b"4"]


def unit_of(piece):
    return Unit("events", piece.start, piece.end, "")


def test_files_refuse_what_they_cannot_hold(world, tmp_path):
    ledger = Ledger(tmp_path / "made.jsonl")
    for kind, says in (("parquet", "cannot be put into parquet files"), ("ndjson", "send them to Kafka")):
        with pytest.raises(UsageError, match=says):
            Recipe.of(world, EVERYDAY, file_sink(load_settings(), str(tmp_path), kind), ledger, PLAN)


def test_what_was_begun_with_faults_is_made_again_with_them(world, start, tmp_path):
    # a manifest is by event time: what is late or dated ahead is told of another window
    quiet = Plan(seed=1, faults=tuple(fault for fault in PLAN.faults if fault.kind not in ("late", "future_dated")))
    ledger = Ledger(tmp_path / "made.jsonl")
    sink = file_sink(load_settings(), str(tmp_path), "ndjson")
    piece = Piece(("events",), start, start + DAY)
    with ledger.writing():
        send(Recipe.of(world, EVERYDAY, sink, ledger, quiet), [piece], sink, ledger)
        (file,) = (tmp_path / "events").glob("*.ndjson")
        before, told = file.read_bytes(), (tmp_path / "faults.jsonl").read_text()
        assert b"\xff\xfe" in before
        lines = ledger.path.read_text().splitlines(keepends=True)
        ledger.path.write_text(lines[0])  # killed before it was known as sent
    with ledger.writing():
        send(Recipe.of(world, EVERYDAY, sink, ledger), unfinished(world, sink, ledger), sink, ledger)
    assert file.read_bytes() == before and (tmp_path / "faults.jsonl").read_text() == told * 2
    minutes = list(manifest(world, EVERYDAY, ledger, start, start + DAY))
    assert sum(minute.digest.count for minute in minutes) == ledger.made("events").count > 0
    (kept,) = tmp_path.glob("faults-*.json")
    kept.write_text('{"seed": ')
    for says in ("is damaged", "is missing"):
        kept_plan.cache_clear()
        with pytest.raises(CrmError, match=f"{says}.*cannot be made again"):
            list(manifest(world, EVERYDAY, ledger, start, start + DAY))
        kept.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "faults: [{kind: earthquake, share: 0.1}]",
            r"faults\[0\]: Input tag 'earthquake' found using 'kind' does not match",
        ),
        ("faults: [{kind: late, share: 2}]", r"faults\[0\].late.share: Input should be less than or equal to 1"),
        ("faults: [{kind: late, share: 0.1, entities: [cats]}]", "cats is no entity: there are events"),
        ("faults: [{kind: late, share: 0.6}, {kind: truncated, share: 0.6}]", "add up to 1.2"),
        ("faults: [{kind: late, share: 0.1, colour: red}]", r"colour: Extra inputs are not permitted"),
        ("faults: [", "is not YAML"),
        (None, "No such file or directory"),
    ],
)
def test_a_plan_with_a_mistake_is_named(tmp_path, text, says):
    file = tmp_path / "plan.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=says):
        read_plan(file)


def test_the_example_is_a_plan():
    plan = read_plan(Path(__file__).parents[2] / "examples" / "faults.yaml")
    assert {fault.kind for fault in plan.faults} == {fault["kind"] for fault in EVERY_KIND}
