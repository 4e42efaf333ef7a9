"""The digest of a set of records: what it depends on, and what not."""

import hashlib
from datetime import UTC, datetime

import polars as pl
import polars_hash as plh
import pyarrow as pa

from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.arrow import arrow_schema
from data_platform_core.derive.canonical import Digest, canonical_polars, digest_of_frame, hashes_of

AT = datetime(2026, 11, 18, 15, 0, 21, 611368, tzinfo=UTC)
PROFILE = {
    "schema_version": 1,
    "customer_id": "cus_한",
    "grade": "vip",
    "segment": "new",
    "signed_up_at": AT,
    "signup_channel": "store",
    "region": "KR-11",
    "birth_year": 1990,
    "has_marketing_consent": False,
    "occurred_at": AT,
    "sequence": 7,
}


def frame_of(entity, *records):
    return pl.from_arrow(pa.Table.from_pylist(list(records), schema=arrow_schema(CONTRACTS[entity])))


def test_the_canonical_form_is_as_described():
    (text,) = frame_of("profiles", PROFILE).select(text=canonical_polars(CONTRACTS["profiles"]))["text"]
    micros = 1795014021611368
    # the length is in bytes: 한 is three of them
    assert text == f"1:17:cus_한3:vip3:new16:{micros}5:store5:KR-114:19901:f16:{micros}1:7"


def test_nested_records_and_nulls_have_a_form_of_their_own():
    line = {"product_id": "p", "quantity": 2, "unit_price_minor": 50}
    order = {
        "schema_version": 1,
        "order_id": "o",
        "order_event_id": "e",
        "customer_id": "c",
        "status": "paid",
        "ordered_at": AT,
        "lines": [line, line],
        "discount_minor": 0,
        "total_minor": 200,
        "currency": "KRW",
        "payment_method": "card",
        "occurred_at": AT,
        "sequence": 1,
    }
    texts = frame_of("orders", order).select(text=canonical_polars(CONTRACTS["orders"]))["text"]
    assert "2[1:p1:22:501:p1:22:50]" in texts[0]
    event = dict.fromkeys(CONTRACTS["events"].model_fields)
    event |= {"schema_version": 1, "event_id": "e", "event_type": "t", "visitor_id": "v", "session_id": "s"}
    event |= {"page_path": "/", "device": "d", "occurred_at": AT, "sequence": 1}
    texts = frame_of("events", event).select(text=canonical_polars(CONTRACTS["events"]))["text"]
    assert texts[0].startswith("1:11:e1:t1:v-1:s1:/-1:d-----")


def test_a_digest_is_the_sum_of_the_first_16_bytes_of_sha_256():
    first = [hashlib.sha256(text.encode()).digest()[:16] for text in ("a", "b")]
    high = sum(int.from_bytes(raw[:8], "big") for raw in first) % 2**64
    low = sum(int.from_bytes(raw[8:], "big") for raw in first) % 2**64
    hashes = pl.DataFrame({"text": ["a", "b"]}).select(hashes_of(plh.col("text")))
    assert hashes.sum().row(0) == (high, low)


def test_a_digest_of_a_frame_is_that_of_its_canonical_texts():
    contract, frame = CONTRACTS["profiles"], frame_of("profiles", PROFILE, PROFILE | {"birth_year": 1991})
    raw = [hashlib.sha256(text.encode()).digest() for text in frame.select(canonical_polars(contract)).to_series()]
    lanes = ([int.from_bytes(each[start : start + 8], "big") for each in raw] for start in (0, 8))
    assert digest_of_frame(contract, frame) == Digest(2, *(sum(lane) % 2**64 for lane in lanes))


def test_order_does_not_matter_and_every_record_does():
    other = PROFILE | {"birth_year": 1991}
    contract = CONTRACTS["profiles"]
    both = digest_of_frame(contract, frame_of("profiles", PROFILE, other))
    assert both == digest_of_frame(contract, frame_of("profiles", other, PROFILE))
    assert both == digest_of_frame(contract, frame_of("profiles", PROFILE)) + digest_of_frame(
        contract, frame_of("profiles", other)
    )
    assert both != digest_of_frame(contract, frame_of("profiles", PROFILE, PROFILE))
    assert digest_of_frame(contract, frame_of("profiles")) == Digest()


def test_a_digest_survives_its_text():
    digest = digest_of_frame(CONTRACTS["profiles"], frame_of("profiles", PROFILE, PROFILE, PROFILE))
    assert Digest.from_hex(3, digest.hex) == digest
