"""The world is a function: whatever is made alone is equal to its part of the whole, by whatever load."""

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_generator.encode import digest_of, lines_of
from data_generator.world.config import DAY, HOUR, MINUTE, SECOND
from data_generator.world.customers import customer_ids
from data_generator.world.load import EVERYDAY, Change, Profile
from data_generator.world.records import Shop
from data_platform_core.contracts import CONTRACTS, GENERATED
from data_platform_core.derive.canonical import Digest
from data_platform_core.errors import UsageError

GOLDEN = {
    "events": "35446d362f867ade78dc2e70c51726ff",
    "orders": "bfd4108d35a3aed5e3f11b3eac5af52d",
    "products": "2798a23b0ff36f1ac7f2e20aa07dda1b",
    "profiles": "ee3af5b267aaa8a9efe15bfa12d856f3",
}


@pytest.fixture(scope="module")
def start(world):
    """Of five days with a weekly refill and a first of a month, on which grades change, among them."""
    return world.midnight(date(2026, 10, 28))


@pytest.fixture(scope="module")
def spiked(start):
    """A load that rises, falls and ends within a day."""
    at = (start + 31 * HOUR) // SECOND
    return Profile().grown(
        Change(at - 1783, 5.0),
        Change(at, 200.0, ramp=30, from_tps=5.0),
        Change(at + 200, 10.0),
        Change(at + 300, None, empties=True),
    )


def sum_of(digests):
    return sum(digests, Digest())


@pytest.mark.parametrize("entity", GENERATED)
def test_every_record_keeps_its_contract(world, start, entity):
    lines = lines_of(entity, Shop(world).records(entity, start, start + 5 * DAY))
    assert len(lines) > 5
    for line in lines:
        CONTRACTS[entity].model_validate_json(line)


@pytest.mark.parametrize("entity", GENERATED)
@pytest.mark.parametrize("load", ["everyday", "spiked"])
def test_parts_are_equal_to_the_whole_in_whatever_order_they_are_made(world, start, spiked, entity, load):
    profile = EVERYDAY if load == "everyday" else spiked
    whole = digest_of(entity, Shop(world, profile).records(entity, start, start + 5 * DAY))
    shop = Shop(world, profile)
    hours = (digest_of(entity, shop.records(entity, at, at + HOUR)) for at in range(start, start + 5 * DAY, HOUR))
    assert sum_of(hours) == whole
    backwards = range(start + 5 * DAY - 8 * HOUR, start - 1, -8 * HOUR)
    assert (
        sum_of(digest_of(entity, Shop(world, profile).records(entity, at, at + 8 * HOUR)) for at in backwards) == whole
    )


@pytest.mark.parametrize("entity", GENERATED)
def test_seconds_of_a_spike_are_equal_to_its_minutes(world, start, spiked, entity):
    first = start + 31 * HOUR - MINUTE
    whole = digest_of(entity, Shop(world, spiked).records(entity, first, first + 4 * MINUTE))
    shop = Shop(world, spiked)
    seconds = range(first, first + 4 * MINUTE, SECOND)
    assert sum_of(digest_of(entity, shop.records(entity, at, at + SECOND)) for at in seconds) == whole
    assert whole.count > 0 or entity in ("products", "profiles")


def test_a_profile_that_grows_changes_nothing_of_what_was(world, start, spiked):
    first = start + 31 * HOUR - 1783 * SECOND
    known = Profile(spiked.changes[:1])
    shop, made = Shop(world, known), []
    for at in range(first, spiked.changes[-1].at * SECOND, 20 * SECOND):
        shop.profile = Profile(tuple(c for c in spiked.changes if c.at * SECOND < at + 20 * SECOND))
        made.append(digest_of("events", shop.records("events", at, at + 20 * SECOND)))
    whole = Shop(world, spiked).records("events", first, first + len(made) * 20 * SECOND)
    assert sum_of(made) == digest_of("events", whole)


loads = st.lists(
    st.builds(
        Change,
        at=st.integers(-1000, 3000),
        tps=st.none() | st.floats(0, 100),
        ramp=st.integers(0, 300),
        from_tps=st.floats(0, 100),
        empties=st.booleans(),
    ),
    max_size=4,
)


@settings(max_examples=12, deadline=None)
@given(
    hour=st.integers(1, 24 * 300),
    seconds=st.integers(1, 3000),
    entity=st.sampled_from(GENERATED),
    cut=st.floats(0, 1),
    load=loads,
)
def test_any_window_of_any_load_is_the_sum_of_any_two_halves(world, hour, seconds, entity, cut, load):
    start = world.opened_at + hour * HOUR
    changes = (replace(change, at=start // SECOND + change.at) for change in load)
    profile = Profile().grown(*sorted(changes, key=lambda change: change.at))
    middle, end = start + int(seconds * cut) * SECOND, start + seconds * SECOND
    shop = Shop(world, profile)
    parts = [shop.records(entity, low, high) for low, high in ((start, middle), (middle, end))]
    assert pl.concat(parts).equals(Shop(world, profile).records(entity, start, end))


@pytest.mark.parametrize("entity", ["events", "orders", "profiles"])
def test_a_customer_made_alone_has_the_records_of_the_whole(world, start, spiked, entity):
    until = start + 5 * DAY
    whole = Shop(world, spiked).records(entity, start, until)
    number = {id_: n for n, id_ in enumerate(customer_ids(world, np.arange(3000)).to_pylist())}
    for id_ in whole["customer_id"].drop_nulls().unique(maintain_order=True)[:5]:
        alone = Shop(world, spiked, customer=number[id_]).records(entity, start, until)
        assert alone.equals(whole.filter(pl.col("customer_id") == id_)) and len(alone) > 0


def test_another_seed_shares_no_id(world, start):
    other = Shop(replace(world, seed=8))
    for entity, key in (
        ("events", "event_id"),
        ("events", "session_id"),
        ("orders", "order_id"),
        ("products", "product_id"),
        ("profiles", "customer_id"),
    ):
        ours, theirs = (set(s.records(entity, start, start + 5 * DAY)[key]) for s in (Shop(world), other))
        assert ours and theirs and not ours & theirs


def test_windows_that_cannot_be_are_refused(world):
    with pytest.raises(UsageError, match="full second"):
        Shop(world).records("events", world.opened_at + 1, world.opened_at + SECOND)
    with pytest.raises(UsageError, match="calendar goes from 2026-01-01"):
        Shop(world).records("events", world.opened_at - SECOND, world.opened_at)


def test_a_change_of_the_world_is_deliberate(world, start):
    shop = Shop(world)
    digests = {entity: digest_of(entity, shop.records(entity, start, start + 5 * DAY)).hex for entity in GENERATED}
    assert digests == GOLDEN, "the world has changed: raise GENERATOR_VERSION and pin the new digests"
