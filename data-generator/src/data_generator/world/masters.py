"""Master data: products and customers, each version a function of its owner and a fixed boundary."""

from __future__ import annotations

from datetime import date
from functools import lru_cache

import numpy as np
import pyarrow as pa

from data_generator.world.config import DAY, HOUR, SECOND, World
from data_generator.world.draws import F64, I64, U64

GRADES = np.array(["bronze", "silver", "gold", "vip"])
SEGMENTS = np.array(["new", "bargain", "regular", "family", "premium"])
_SEGMENT_WEIGHTS = np.array([0.15, 0.25, 0.35, 0.15, 0.10])
CHANNELS = np.array(["organic", "search_ad", "social", "referral", "store"])
_CHANNEL_WEIGHTS = np.array([0.35, 0.20, 0.25, 0.12, 0.08])
# ISO 3166-2:KR; weights by population, Statistics Korea 2024, rounded to percent
_REGIONS = np.array(
    ["11", "26", "27", "28", "29", "30", "31", "41", "42", "43", "44", "45", "46", "47", "48", "49", "50"]
)
_REGION_WEIGHTS = np.array([18, 6, 5, 6, 3, 3, 2, 27, 3, 3, 4, 3, 3, 5, 6, 1, 1], dtype=float)
_CATEGORIES = (
    ("fashion/shoes", "러닝화", 89_000),
    ("fashion/outer", "윈드브레이커", 129_000),
    ("beauty/skincare", "수분 크림", 32_000),
    ("home/kitchen", "주물 냄비", 74_000),
    ("food/tea", "녹차 세트", 18_000),
    ("digital/audio", "무선 이어폰", 159_000),
    ("sports/camping", "접이식 의자", 45_000),
    ("kids/toys", "나무 블록", 27_000),
)
_STYLES = ("한강", "제주", "남산", "Basic", "Studio", "Nordic", "새벽", "Origin")
WALK_IN = np.uint64(1 << 63)
"""Marks the counter of a customer who signs up within live traffic."""


def hash_of(world: World, purpose: str, *parts: U64 | int) -> U64:
    """One counter out of several, for draws that depend on all of them."""
    counter = np.zeros(1, dtype=np.uint64)
    for place, part in enumerate(parts):
        words = np.asarray(part, dtype=np.uint64)
        counter = world.draws.bits(f"{purpose}, part {place}", counter ^ words)
    return counter


# --- products ---------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def popularity(world: World) -> F64:
    """Weight of each product: Zipf-like."""
    rank = np.argsort(np.argsort(world.draws.uniform("popularity", _owners(world.products))))
    return np.asarray(1.0 / (rank + 2.0), dtype=np.float64)


@lru_cache(maxsize=4)
def _refill_delay(world: World) -> I64:
    return world.draws.integer("refill delay", _owners(world.products), 6 * 3600) * SECOND


def price_minor(world: World, product: I64, at: I64) -> I64:
    """List price of products at times, in minor units: a price holds for one week of the product."""
    week = np.searchsorted(world.week_starts, at - _refill_delay(world)[product], side="right") - 1
    return _price_of_week(world, product, week)


def _price_of_week(world: World, product: I64, week: I64) -> I64:
    base = np.array([price for *_, price in _CATEGORIES])[product % len(_CATEGORIES)]
    spread = 0.7 + 0.6 * world.draws.uniform("price spread", product.astype(np.uint64))
    offer = hash_of(world, "weekly offer", product.astype(np.uint64), week.astype(np.uint64))
    factor = np.where(world.draws.uniform("is on offer", offer) < 0.15, 0.8, 1.0)
    return (base * spread * factor / 100).astype(np.int64) * 100


def product_ids(world: World, product: I64) -> pa.Array:
    """Ids of products by their numbers."""
    return world.draws.ids("prd_", "product", product.astype(np.uint64))


def refills(world: World, start: int, end: int) -> tuple[I64, I64]:
    """Numbers and times of the weekly refills within [start, end)."""
    products = np.arange(world.products, dtype=np.int64)
    first, last = np.searchsorted(world.week_starts, [start - DAY, end], side="left")
    at = world.week_starts[first:last, None] + _refill_delay(world)[None, :]
    products = np.broadcast_to(products, at.shape)
    chosen = (at >= start) & (at < end)
    return products[chosen], at[chosen]


def live_refills(world: World, start: int, end: int) -> tuple[I64, I64]:
    """Numbers and times of refills within live traffic: one every five seconds."""
    seconds = _seconds(start, end, every=5)
    at = seconds.astype(np.int64) * SECOND + world.draws.integer("live refill at", seconds, SECOND)
    return world.draws.integer("live refill of", seconds, world.products), at


def products_table(world: World, product: I64, at: I64) -> pa.Table:
    """Product records: the versions of products that begin at the given times."""
    category = product % len(_CATEGORIES)
    weekly = popularity(world) / popularity(world).sum() * world.events_per_day * 7 * 0.06
    return pa.table(
        {
            "schema_version": np.ones(len(product), dtype=np.int64),
            "product_id": product_ids(world, product),
            "category_path": np.array([path for path, *_ in _CATEGORIES])[category],
            "name": pa.array([_name(number) for number in product.tolist()], pa.string()),
            "price_minor": price_minor(world, product, at),
            "currency": pa.repeat(world.currency, len(product)),
            "restock_level": (50 + 8 * np.ceil(weekly)).astype(np.int64)[product],
            "restocked_at": at,
            "is_active": np.ones(len(product), dtype=bool),
            "occurred_at": at,
            "sequence": at,
        }
    )


def _name(product: int) -> str:
    style = _STYLES[product // len(_CATEGORIES) % len(_STYLES)]
    return f"{style} {_CATEGORIES[product % len(_CATEGORIES)][1]} {product:03d}"


# --- customers --------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def signed_up_at(world: World) -> I64:
    """When each customer signs up: a third on the first day, the others over the year after."""
    drawn = np.maximum(world.draws.uniform("sign-up", _owners(world.customers)) * 1.5 - 0.5, 0.0)
    within = world.draws.integer("sign-up within the day", _owners(world.customers), DAY // SECOND)
    return world.opened_at + (drawn * 364).astype(np.int64) * DAY + within * SECOND


def customer_ids(world: World, owner: U64) -> pa.Array:
    """Ids of customers by their counters."""
    return world.draws.ids("cus_", "customer", owner)


def signups(world: World, start: int, end: int) -> tuple[U64, I64]:
    """Counters and times of the customers who sign up within [start, end)."""
    at = signed_up_at(world)
    chosen = (at >= start) & (at < end)
    return _owners(world.customers)[chosen], at[chosen]


def live_signups(world: World, start: int, end: int) -> tuple[U64, I64]:
    """Counters and times of sign-ups within live traffic: one every five seconds."""
    seconds = _seconds(start, end, every=5)
    at = seconds.astype(np.int64) * SECOND + world.draws.integer("walk-in at", seconds, SECOND)
    return WALK_IN | seconds, at


def grade_changes(world: World, start: int, end: int) -> tuple[U64, I64, I64]:
    """Counters, times and new grades of the customers who change grade within [start, end).

    Grades are settled on the first of a month, from what the month before was.
    """
    owners: list[U64] = []
    times: list[I64] = []
    grades: list[I64] = []
    for first in _firsts_of_months(world, start - DAY, end):
        at = (
            world.midnight(first)
            + world.draws.integer("grade settled at", _owners(world.customers), HOUR // SECOND) * SECOND
        )
        month = first.year * 12 + first.month
        new, old = _grade(world, month), _grade(world, month - 1)
        is_known = signed_up_at(world) < world.midnight(first)
        changed = is_known & (new != old) & (at >= start) & (at < end)
        owners.append(_owners(world.customers)[changed])
        times.append(at[changed])
        grades.append(new[changed])
    if not owners:
        return np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(owners), np.concatenate(times), np.concatenate(grades)


def _grade(world: World, month: int) -> I64:
    """Grade of every customer from the first of a month on; bronze until the month after sign-up."""
    owners = _owners(world.customers)
    mood = world.draws.uniform("spending in a month", hash_of(world, "month", owners, month))
    score = 0.75 * world.draws.uniform("spending", owners) ** 2 + 0.25 * mood
    first = world.midnight(date((month - 1) // 12, (month - 1) % 12 + 1, 1))
    return np.where(signed_up_at(world) < first, (score * 4).astype(np.int64), 0)


def profiles_table(world: World, owner: U64, signed_up: I64, at: I64, grade: I64) -> pa.Table:
    """Profile records: the versions of customers that begin at the given times."""
    draws = world.draws
    return pa.table(
        {
            "schema_version": np.ones(len(owner), dtype=np.int64),
            "customer_id": customer_ids(world, owner),
            "grade": GRADES[grade],
            "segment": SEGMENTS[draws.choice("segment", owner, _SEGMENT_WEIGHTS)],
            "signed_up_at": signed_up,
            "signup_channel": CHANNELS[draws.choice("channel", owner, _CHANNEL_WEIGHTS)],
            "region": np.char.add("KR-", _REGIONS[draws.choice("region", owner, _REGION_WEIGHTS)]),
            "birth_year": 1950 + draws.integer("birth year", owner, 57),
            "has_marketing_consent": draws.uniform("consent", owner) < 0.62,
            "occurred_at": at,
            "sequence": at,
        }
    )


def _owners(count: int) -> U64:
    return np.arange(count, dtype=np.uint64)


def _seconds(start: int, end: int, every: int) -> U64:
    seconds: U64 = np.arange(start // SECOND, -(-end // SECOND), dtype=np.uint64)
    return seconds[seconds % np.uint64(every) == 0]


def _firsts_of_months(world: World, start: int, end: int) -> list[date]:
    days = world.days(world.day_of(start), world.day_of(end))
    days.append(world.day_of(end))
    return [day for day in days if day.day == 1]
