"""Spark's verdict on a record is the contract's own, and says why."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data_platform_core.contracts import CONTRACTS
from spark_jobs.transforms.parse import parsed, refused

TOLERANCE = timedelta(minutes=10)
EXAMPLES = Path(__file__).parents[3] / "data-platform-core" / "tests" / "contracts"


@pytest.mark.parametrize("entity", CONTRACTS)
def test_spark_accepts_and_refuses_the_examples_as_the_contract_does(messages, entity):
    files = sorted(EXAMPLES.glob(f"{entity}.*.json"))
    rows = parsed(messages(*(file.read_bytes() for file in files)), CONTRACTS[entity], TOLERANCE).collect()
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
        encoded(good, schema_version=2): "unknown_version:schema_version",
        encoded(good, lines=[line | {"quantity": 0}]): "out_of_range:lines.quantity",
        encoded(good, lines=[line | {"product_id": "x"}]): "bad_format:lines.product_id",
        encoded(good, occurred_at="yesterday"): "not_an_instant:occurred_at",
        encoded(good, total_minor=1): "law_broken:total_is_lines_less_discount",
    }
    rows = parsed(messages(*cases), CONTRACTS["orders"], TOLERANCE).orderBy("kafka_offset").collect()
    assert [row.reason for row in rows] == list(cases.values())


def test_an_accepted_record_is_typed_and_keeps_its_coordinates(messages):
    good = (EXAMPLES / "orders.1.two_lines_refunded.pass.json").read_bytes()
    (row,) = parsed(messages(good), CONTRACTS["orders"], TOLERANCE).collect()
    assert row.reason is None
    assert row.occurred_at.replace(tzinfo=UTC) == datetime(2026, 11, 19, 15, 0, 21, 611368, tzinfo=UTC)
    assert [(line.quantity, line.unit_price_minor) for line in row.lines] == [(1, 27900), (3, 1000)]
    assert (row.kafka_topic, row.kafka_partition, row.kafka_offset) == ("t", 0, 0)


def test_a_refused_message_keeps_its_bytes(messages):
    rows = parsed(messages(b"\x00\xffrubbish", b"{}"), CONTRACTS["events"], TOLERANCE)
    kept = {bytes(row.value): row.reason for row in refused(rows).collect()}
    assert kept == {b"\x00\xffrubbish": "not_utf8", b"{}": "missing_field:schema_version"}


def encoded(record, **changes):
    changed = {**record, **changes}
    return json.dumps({name: value for name, value in changed.items() if value is not ...}).encode()
