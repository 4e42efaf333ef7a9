"""The world is a function: whatever is made alone is equal to its part of the whole, and its laws hold."""

from dataclasses import replace
from datetime import date

import polars as pl
import pytest

from data_generator.encode import digest_of, lines_of
from data_generator.world.config import DAY, HOUR, SECOND
from data_generator.world.records import records_of
from data_generator.world.visits import EverydayTraffic, LiveTraffic
from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.canonical import Digest

EVERYDAY = EverydayTraffic()
GOLDEN = {
    "events": "49364be97c0633c026a3ea35bf0c9a0b",
    "orders": "0b262e8c579420237152c7dacb108168",
    "products": "9d9b87955431a28a1cde59baddd7148d",
    "profiles": "38cd48e0e2869ecac00d0564b9b164f9",
}


@pytest.fixture(scope="module")
def days(world):
    """Four days with a weekly refill and a first of a month, on which grades change, among them."""
    start = world.midnight(date(2026, 10, 29))
    return start, start + 4 * DAY


@pytest.mark.parametrize("entity", CONTRACTS)
def test_every_record_keeps_its_contract(world, days, entity):
    lines = lines_of(entity, records_of(world, entity, EVERYDAY, *days))
    assert len(lines) > 5
    for line in lines:
        CONTRACTS[entity].model_validate_json(line)


@pytest.mark.parametrize("entity", CONTRACTS)
def test_hours_made_alone_are_equal_to_the_days(world, days, entity):
    start, end = days
    whole = records_of(world, entity, EVERYDAY, start, end)
    hours = [records_of(world, entity, EVERYDAY, at, at + HOUR) for at in range(start, end, HOUR)]
    assert sum((digest_of(entity, hour) for hour in hours), Digest()) == digest_of(entity, whole)


def test_seconds_of_live_traffic_are_equal_to_their_minute(world):
    start = world.midnight(date(2026, 11, 2)) + 12 * HOUR
    traffic = LiveTraffic(20.0)
    for entity in CONTRACTS:
        whole = digest_of(entity, records_of(world, entity, traffic, start, start + 60 * SECOND))
        seconds = range(start, start + 60 * SECOND, SECOND)
        parts = (digest_of(entity, records_of(world, entity, traffic, s, s + SECOND)) for s in seconds)
        assert sum(parts, Digest()) == whole
        assert whole.count > 0, f"a minute of live traffic has no {entity}"


def test_live_traffic_keeps_its_rate(world):
    start = world.midnight(date(2026, 11, 2)) + 12 * HOUR
    made = sum(records_of(world, e, LiveTraffic(50.0), start, start + 600 * SECOND).num_rows for e in CONTRACTS)
    assert made == pytest.approx(50 * 600, rel=0.05)


def test_another_seed_shares_no_record(world, days):
    other = replace(world, seed=8)
    for entity, key in (
        ("events", "event_id"),
        ("orders", "order_id"),
        ("products", "product_id"),
        ("profiles", "customer_id"),
    ):
        ours, theirs = (set(records_of(w, entity, EVERYDAY, *days)[key].to_pylist()) for w in (world, other))
        assert ours and theirs and not ours & theirs


def test_references_hold(world):
    start = world.midnight(date(2026, 11, 1))
    tables = {e: pl.from_arrow(records_of(world, e, EVERYDAY, start, start + 3 * DAY)) for e in ("events", "orders")}
    masters = {
        e: pl.from_arrow(records_of(world, e, EVERYDAY, world.opened_at, start + 3 * DAY))
        for e in ("products", "profiles")
    }
    signed_up = masters["profiles"].group_by("customer_id").agg(pl.col("occurred_at").min().alias("known_from"))
    launched = masters["products"].group_by("product_id").agg(pl.col("occurred_at").min().alias("sold_from"))
    for name, table in tables.items():
        acting = table.filter(pl.col("customer_id").is_not_null()).join(signed_up, on="customer_id", how="left")
        assert (
            len(acting)
            and acting.filter(
                pl.col("known_from").is_null() | (pl.col("known_from") > pl.col("occurred_at"))
            ).is_empty()
        ), name
    lines = tables["orders"].explode("lines").unnest("lines").join(launched, on="product_id", how="left")
    assert lines.filter(pl.col("sold_from").is_null() | (pl.col("sold_from") > pl.col("ordered_at"))).is_empty()
    purchases = tables["events"].filter(pl.col("event_type") == "purchase")
    paid = tables["orders"].filter(pl.col("status") == "paid")
    assert len(purchases) and set(purchases["order_id"]) == set(paid["order_id"])
    later = tables["orders"].filter(pl.col("status") != "paid")
    assert len(later) and (later["occurred_at"] > later["ordered_at"]).all()


def test_stock_never_falls_below_zero(world):
    start = int(world.week_starts[40])
    end = int(world.week_starts[42])
    orders = pl.from_arrow(records_of(world, "orders", EVERYDAY, start, end)).filter(pl.col("status") == "paid")
    lines = orders.explode("lines").unnest("lines")
    products = pl.from_arrow(records_of(world, "products", EVERYDAY, start - 7 * DAY, end))
    refills = products.select("product_id", "restocked_at", "restock_level").sort("restocked_at")
    since_refill = lines.sort("ordered_at").join_asof(
        refills, left_on="ordered_at", right_on="restocked_at", by="product_id", check_sortedness=False
    )
    sold = since_refill.group_by("product_id", "restocked_at", "restock_level").agg(pl.col("quantity").sum())
    assert len(sold) and sold["restock_level"].null_count() == 0
    assert (sold["quantity"] <= sold["restock_level"]).all()


def test_ids_are_unique(world, days):
    for entity, contract in CONTRACTS.items():
        table = pl.from_arrow(records_of(world, entity, EVERYDAY, *days))
        assert not table.select(contract.key).is_duplicated().any()


def test_a_change_of_the_world_is_deliberate(world, days):
    digests = {entity: digest_of(entity, records_of(world, entity, EVERYDAY, *days)).hex for entity in CONTRACTS}
    assert digests == GOLDEN, "the world has changed: raise GENERATOR_VERSION and pin the new digests"
