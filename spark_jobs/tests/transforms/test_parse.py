"""Spark's verdict on a record is the contract's own, and says why."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.fields import fields_of
from data_platform_core.derive.spark import plain_pattern
from spark_jobs.transforms.parse import parsed, refused

TOLERANCE = timedelta(minutes=10)
EXAMPLES = Path(__file__).parents[3] / "data-platform-core" / "tests" / "contracts"


@pytest.mark.parametrize("entity", CONTRACTS)
def test_spark_accepts_and_refuses_the_examples_as_the_contract_does(messages, entity):
    files = sorted(EXAMPLES.glob(f"{entity}.*.json"))
    rows = parsed(messages(*(file.read_bytes() for file in files)), CONTRACTS[entity], TOLERANCE)
    # a time that is refused may be none of Python's
    rows = rows.select("kafka_offset", "reason").collect()
    verdicts = {files[row.kafka_offset].name: row.reason for row in rows}
    assert len(verdicts) == len(files) > 3
    wrong = {name: reason for name, reason in verdicts.items() if (".pass." in name) != (reason is None)}
    assert wrong == {}


def test_each_refusal_says_what_and_where(messages):
    good = json.loads((EXAMPLES / "orders.1.minimal.pass.json").read_text())
    line = good["lines"][0]
    cases = {
        b"": "empty",
        b"\xff\xfe": "not_utf8",
        b"{": "not_json",
        b"[1]": "not_an_object",
        encoded(good, status=...): "missing_field:status",
        encoded(good, colour="red"): "unknown_field:colour",
        encoded(good, total_minor="27900"): "wrong_type:total_minor",
        encoded(good, total_minor=27900.5): "wrong_type:total_minor",
        encoded(good, customer_id=None): "wrong_type:customer_id",
        encoded(good, lines=[line | {"gift": True}]): "wrong_type:lines",
        encoded(good, status="lost"): "unknown_value:status",
        encoded(good, schema_version=0): "unknown_version:schema_version",
        encoded(good, lines=[line | {"quantity": 0}]): "out_of_range:lines.quantity",
        encoded(good, lines=[line | {"product_id": "x"}]): "bad_format:lines.product_id",
        encoded(good, occurred_at="yesterday"): "not_an_instant:occurred_at",
        encoded(good, total_minor=1): "law_broken:total_is_lines_less_discount",
    }
    rows = parsed(messages(*cases), CONTRACTS["orders"], TOLERANCE).orderBy("kafka_offset").collect()
    assert [row.reason for row in rows] == list(cases.values())


def test_a_lines_end_after_a_value_is_none_of_the_value(messages):
    """Java's `$` matches before one: silver would take what the contract refuses, and every gate after it."""
    good = json.loads((EXAMPLES / "events.1.minimal.pass.json").read_text())
    fields = {"visitor_id": "bad_format", "page_path": "bad_format", "occurred_at": "not_an_instant"}
    cases = {
        encoded(good, **{name: good[name] + end}): f"{reason}:{name}"
        for name, reason in fields.items()
        for end in ("\n", "\r\n", "\u0085", "\u2028")
    }
    rows = parsed(messages(*cases), CONTRACTS["events"], TOLERANCE).orderBy("kafka_offset").collect()
    assert [row.reason for row in rows] == list(cases.values())
    order = [field.name for field in fields_of(CONTRACTS["events"])]
    plain = json.dumps({name: good[name] for name in order}, separators=(",", ":")).encode()
    ends = {b"": None, b"\n": None, "\u2028".encode(): "not_json"}
    rows = parsed(messages(*(plain + end for end in ends)), CONTRACTS["events"], TOLERANCE).orderBy("kafka_offset")
    assert [row.reason for row in rows.collect()] == list(ends.values())


def test_an_accepted_record_is_typed_and_keeps_its_coordinates(messages):
    good = (EXAMPLES / "orders.1.two_lines_refunded.pass.json").read_bytes()
    (row,) = parsed(messages(good), CONTRACTS["orders"], TOLERANCE).collect()
    assert row.reason is None
    assert row.occurred_at.replace(tzinfo=UTC) == datetime(2026, 11, 19, 15, 0, 21, 611368, tzinfo=UTC)
    assert [(line.quantity, line.unit_price_minor) for line in row.lines] == [(1, 27900), (3, 1000)]
    assert (row.kafka_topic, row.kafka_partition, row.kafka_offset) == ("t", 0, 0)


def test_a_later_version_flows_and_what_it_adds_is_kept(messages):
    added = (EXAMPLES / "events.2.added_field.pass.json").read_bytes()
    nothing = (EXAMPLES / "events.2.nothing_added.pass.json").read_bytes()
    rows = parsed(messages(added, nothing), CONTRACTS["events"], TOLERANCE).orderBy("kafka_offset").collect()
    assert [(row.reason, row.schema_version) for row in rows] == [(None, 2), (None, 2)]
    assert json.loads(rows[0].added_fields) == {"loyalty_hint": {"tier": "gold", "points": [1, 2]}}
    assert rows[1].added_fields is None


def test_a_date_in_the_future_is_kept_capped_and_marked(messages):
    good = json.loads((EXAMPLES / "events.1.minimal.pass.json").read_text())
    ahead = encoded(good, occurred_at="2031-01-01T00:00:00.000000Z")
    tolerated = encoded(good, occurred_at="2026-11-20T01:12:03.000000Z")
    rows = parsed(messages(ahead, tolerated), CONTRACTS["events"], TOLERANCE).orderBy("kafka_offset").collect()
    assert [row.is_future_dated for row in rows] == [True, False]
    assert rows[0].effective_at == rows[0].arrived_at
    assert rows[1].effective_at == rows[1].occurred_at > rows[1].arrived_at
    assert rows[0].occurred_at == datetime(2031, 1, 1)


@pytest.mark.parametrize("entity", CONTRACTS)
def test_one_pattern_decides_what_our_producer_writes_and_nothing_it_should_not(entity):
    pattern = plain_pattern(CONTRACTS[entity])
    good = json.loads((EXAMPLES / f"{entity}.1.minimal.pass.json").read_text())
    order = [field.name for field in fields_of(CONTRACTS[entity])]
    plain = json.dumps({name: good[name] for name in order}, separators=(",", ":"), ensure_ascii=False)
    assert re.match(pattern, plain)
    assert not re.match(pattern, json.dumps(good))
    for change in ({"sequence": -1}, {"sequence": 1.5}, {"occurred_at": "2026-02-30T00:00:00.000000Z"}, {"more": 1}):
        wrong = {name: good[name] for name in order} | change
        assert not re.match(pattern, json.dumps(wrong, separators=(",", ":"), ensure_ascii=False)), change


def test_a_refused_message_keeps_its_bytes(messages):
    rows = parsed(messages(b"\x00\xffrubbish", b"{}"), CONTRACTS["events"], TOLERANCE)
    kept = {bytes(row.value): row.reason for row in refused(rows).collect()}
    assert kept == {b"\x00\xffrubbish": "not_utf8", b"{}": "missing_field:schema_version"}


def encoded(record, **changes):
    changed = {**record, **changes}
    return json.dumps({name: value for name, value in changed.items() if value is not ...}).encode()
