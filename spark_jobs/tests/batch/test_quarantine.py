"""Messages are chosen by reason or place, and mended field by field; what is still wrong is named."""

import json
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.fields import fields_of
from spark_jobs.batch.quarantine import chosen, mended, record_hash, refusal_of

EXAMPLES = Path(__file__).parents[3] / "data-platform-core" / "tests" / "contracts"


def row(offset, reason, value=b"{}", topic="crm.events.v1"):
    return {
        "kafka_topic": topic, "kafka_partition": 0, "kafka_offset": offset, "key": b"k", "value": value, "reason": reason,
    }  # fmt: skip


def test_messages_are_chosen_by_code_by_whole_reason_or_by_place():
    rows = pl.DataFrame([row(2, "wrong_type:device"), row(1, "wrong_type:sequence"), row(3, "not_json")])
    assert [m.offset for m in chosen(rows, "wrong_type", [])] == [1, 2]
    assert [m.offset for m in chosen(rows, "wrong_type:device", [])] == [2]
    assert [m.offset for m in chosen(rows, None, ["0:3", "0:9"])] == [3]
    assert chosen(rows, "wrong_type", ["0:3"]) == []


def test_messages_of_two_files_at_one_place_are_told_apart():
    rows = pl.DataFrame(
        [row(0, "not_json", topic="backfill/1/a.ndjson"), row(0, "not_json", topic="backfill/2/b.ndjson")]
    )
    first, second = chosen(rows, "not_json", [])
    assert (first.place, second.place) == ("backfill/1/a.ndjson:0:0", "backfill/2/b.ndjson:0:0")
    assert chosen(rows, None, [second.place]) == [second]
    assert chosen(rows, None, ["0:0"]) == []


def test_fields_are_set_and_dropped_and_the_rest_stays():
    text = mended('{"a":1,"b":"남","c":null}'.encode(), {"a": 2}, ["c"])
    assert text == '{"a":2,"b":"남"}'.encode()
    for value in (b"[1]", b"{", b"", None, b"\xff"):
        with pytest.raises(ValueError):
            mended(value, {"a": 2}, [])


def test_what_is_still_against_the_contract_is_said():
    good = (EXAMPLES / "events.1.minimal.pass.json").read_bytes()
    assert refusal_of(CONTRACTS["events"], good) is None
    wrong = json.dumps(json.loads(good) | {"device": "kettle"}).encode()
    assert "device" in refusal_of(CONTRACTS["events"], wrong)
    assert refusal_of(CONTRACTS["events"], b"\xff")


def test_the_hash_of_a_record_is_that_of_its_canonical_form():
    contract = CONTRACTS["products"]
    text = (EXAMPLES / "products.1.minimal.pass.json").read_bytes()
    words = json.loads(text)
    canonical = ""
    for field in fields_of(contract):
        value = words[field.name]
        if field.kind == "instant":
            value = round(datetime.fromisoformat(value).timestamp() * 1_000_000)
        elif field.kind == "boolean":
            value = "t" if value else "f"
        canonical += f"{len(str(value).encode())}:{value}"
    assert record_hash(contract, contract.read(text)) == sha256(canonical.encode()).hexdigest()[:32]
