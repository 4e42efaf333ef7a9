"""Customers: when they sign up, on which days they come, what they are inclined to spend, and their profiles.

Customers are numbered in the order in which they sign up. A life is drawn top-down: whether a customer comes on
a day follows from the age of the account alone, so that the retention contract holds by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
import pyarrow as pa

from data_generator.world.config import DAY, HOUR, SECOND, World, month_of
from data_generator.world.draws import F64, I64, U64
from data_generator.world.rhythm import day_position, hour_quantile, traffic_until

GRADES = np.array(["bronze", "silver", "gold", "vip"])
_GRADE_FROM = np.array([0.25, 0.6, 1.2])
"""planned spending of three months, in those of a middling customer of a hundred days, from which a grade is given"""
SEGMENTS = np.array(["new", "bargain", "regular", "family", "premium"])
_SEGMENT_WEIGHTS = np.array([0.30, 0.40, 0.18, 0.12])  # of those who are not new
CHANNELS = np.array(["organic", "search_ad", "social", "referral", "store"])
_CHANNEL_WEIGHTS = np.array([0.35, 0.20, 0.25, 0.12, 0.08])
# ISO 3166-2:KR; weights by population, Statistics Korea 2024, rounded to percent
_REGIONS = np.array(
    ["11", "26", "27", "28", "29", "30", "31", "41", "42", "43", "44", "45", "46", "47", "48", "49", "50"]
)
_REGION_WEIGHTS = np.array([18, 6, 5, 6, 3, 3, 2, 27, 3, 3, 4, 3, 3, 5, 6, 1, 1], dtype=float)
_TAKEN_OVER = 0.3
"""share of the first year's customers who come from the shop before: they are known at the opening"""
_NEW_FOR_DAYS = 30
_OLDEST = 9_000
"""days of age up to which the curves reach: twenty years and the years of the shop before"""


# --- signing up -------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _signed_up_within(world: World, years: int) -> I64:
    taken_over = int(world.customers * _TAKEN_OVER)
    numbers = np.arange(taken_over, dtype=np.uint64)
    age = 30.0 + 670.0 * (1.0 - (numbers + world.draws.uniform("age at the opening", numbers)) / max(taken_over, 1))
    before = world.opened_at - (age * DAY).astype(np.int64)
    until = traffic_until(world)
    a_year = world.customers - taken_over
    count = int(until[min(years * 365, len(until) - 1)] * a_year)
    numbers = np.arange(taken_over, taken_over + count, dtype=np.uint64)
    place = (numbers - taken_over + world.draws.uniform("sign-up", numbers)) / max(a_year, 1)
    day = np.minimum(np.searchsorted(until, place, side="right") - 1, len(until) - 2)
    share = (place - until[day]) / (until[day + 1] - until[day])
    after = day_position(world, day, hour_quantile(share))
    return np.concatenate([before, np.maximum.accumulate(after)]) if count else before


def signed_up_at(world: World, until: int) -> I64:
    """When customers sign up, by their number: at least all who do before a time; ascending."""
    return _signed_up_within(world, _years(world, until))


def _years(world: World, until: int) -> int:
    return max(int((until - world.opened_at) // (365 * DAY)) + 1, 1)


def born_on(world: World, until: int) -> I64:
    """The days of the calendar on which customers sign up, as `signed_up_at`; below 0, days before the opening."""
    return _born_within(world, _years(world, until))


@lru_cache(maxsize=4)
def _born_within(world: World, years: int) -> I64:
    at = _signed_up_within(world, years)
    before = (world.opened_at - at - 1) // DAY + 1  # for those who come from the shop before
    return np.where(at >= world.opened_at, world.day_number(at), -before)


def signups(world: World, start: int, end: int) -> tuple[U64, I64]:
    """Numbers and times of the customers who sign up within [start, end)."""
    at = signed_up_at(world, end)
    first, last = np.searchsorted(at, [start, end])
    return np.arange(first, last, dtype=np.uint64), at[first:last]


# --- coming back ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Curves:
    """By age in days: the share who come that day, the share who still come at all, visits expected so far."""

    comes: F64
    stays: F64
    visits: F64


@lru_cache(maxsize=4)
def curves(world: World) -> _Curves:
    """The retention contract as curves: a power law through its points, and beyond the last as before it.

    A customer either still comes, by a share that is the root of the curve, or has left for good.
    """
    contract = world.retention
    ages, shares = np.log([1.0, 7.0, 30.0]), np.log([contract.d1, contract.d7, contract.d30])
    age = np.log(np.arange(1.0, _OLDEST))
    slope = (shares[2] - shares[1]) / (ages[2] - ages[1])
    beyond = shares[2] + slope * (age - ages[2])
    comes = np.exp(np.where(age > ages[2], beyond, np.interp(age, ages, shares)))
    comes = np.concatenate([[1.0], comes])
    stays = np.minimum.accumulate(np.sqrt(comes))
    return _Curves(comes, stays, np.concatenate([[0.0], np.cumsum(comes / stays)]))


@lru_cache(maxsize=3)
def visitors_of_day(world: World, day: int) -> I64:
    """Numbers of the customers, signed up before a day of the calendar, who come on it."""
    start = int(world.day_starts[day])
    count = int(np.searchsorted(signed_up_at(world, start), start))
    number = np.arange(count, dtype=np.uint64)
    age = day - born_on(world, start)[:count]
    curve = curves(world)
    stays = world.draws.uniform("stays a customer", number) < curve.stays[age]
    number, age = number[stays], age[stays]
    of_day = (number << np.uint64(14)) | np.uint64(day)
    comes = world.draws.uniform("comes on a day", of_day) < curve.comes[age] / curve.stays[age]
    return number[comes].astype(np.int64)


# --- spending ---------------------------------------------------------------------------------


def inclination(world: World, customer: I64, month: I64 | int) -> F64:
    """How much a customer spends on an order in a month (counted from year 0), in means; its mean is 1."""
    owner = customer.astype(np.uint64)
    lasting = 0.4 + 1.8 * world.draws.uniform("spending", owner) ** 2
    of_month = (owner << np.uint64(16)) ^ np.asarray(month, dtype=np.uint64)
    return lasting * (0.7 + 0.6 * world.draws.uniform("spending in a month", of_month))


def _first_of(month: int) -> date:
    return date(month // 12, month % 12 + 1, 1)


def _planned(world: World, month: int, born: I64) -> F64:
    """What customers, by their first days, plan to spend in a month: visits expected, times the inclination."""
    start, end = (_calendar_day(world, _first_of(m)) for m in (month, month + 1))
    number = np.arange(len(born), dtype=np.uint64)
    curve = curves(world)
    leaves = len(curve.stays) - np.searchsorted(
        curve.stays[::-1], world.draws.uniform("stays a customer", number), "right"
    )
    first, last = (np.clip(day - born, 0, None) for day in (start, end))
    visits = curve.visits[np.minimum(last, leaves)] - curve.visits[np.minimum(first, leaves)]
    return np.maximum(visits, 0.0) * inclination(world, number.astype(np.int64), month)


def _calendar_day(world: World, day: date) -> int:
    return (day - world.opened_on).days


@lru_cache(maxsize=8)
def _settled(world: World, month: int) -> tuple[I64, I64]:
    """Grade and segment, from the first of a month on, of the customers signed up before it."""
    first = world.midnight(_first_of(month))
    known = signed_up_at(world, first)
    count = int(np.searchsorted(known, first))
    born = born_on(world, first)[:count]
    planned = sum((_planned(world, month - back, born) for back in (1, 2, 3)), np.zeros(count))
    curve = curves(world)
    middling = curve.visits[100] - curve.visits[10]
    grade = np.searchsorted(_GRADE_FROM * middling, planned, side="right")
    lasting = 1 + world.draws.choice("segment", np.arange(count, dtype=np.uint64), _SEGMENT_WEIGHTS)
    is_new = known[:count] > first - _NEW_FOR_DAYS * DAY
    return grade, np.where(is_new, 0, lasting)


# --- profiles ---------------------------------------------------------------------------------


def customer_ids(world: World, customer: I64 | U64) -> pa.Array:
    """Ids of customers by their numbers."""
    return world.draws.ids("cus_", "customer", customer.astype(np.uint64))


def profiles_within(world: World, start: int, end: int) -> pa.Table:
    """Profile records within [start, end): customers taken over, sign-ups, and what the first of a month changes."""
    number, signed_up = signups(world, start, end)
    new = np.zeros(len(number), dtype=np.int64)
    parts = [_table(world, number, signed_up, signed_up, new, new)]
    if start <= world.opened_at < end:
        number, signed_up = _taken_over(world)
        opened = np.full(len(number), world.opened_at)
        parts.append(_table(world, number, signed_up, opened, *_at_opening(world)))
    for month in _months_settled(world, start, end):
        parts.append(_changes(world, month, start, end))
    return pa.concat_tables(parts)


def _taken_over(world: World) -> tuple[U64, I64]:
    """Numbers and sign-ups of the customers known at the opening."""
    signed_up = signed_up_at(world, world.opened_at)
    count = int(np.searchsorted(signed_up, world.opened_at))
    return np.arange(count, dtype=np.uint64), signed_up[:count]


def _at_opening(world: World) -> tuple[I64, I64]:
    """Grade and segment, at the opening, of the customers taken over."""
    count = len(_taken_over(world)[0])
    grade, segment = _settled(world, month_of(world.opened_on))
    missing = np.zeros(max(count - len(grade), 0), np.int64)  # who came to the shop before in its last days
    return np.concatenate([grade, missing])[:count], np.concatenate([segment, missing])[:count]


def _months_settled(world: World, start: int, end: int) -> list[int]:
    """Months after the opening whose first hour, in which they are settled, touches [start, end)."""
    first, last = world.day_of(max(start - HOUR, world.opened_at)), world.day_of(end)
    settled = ((month, world.midnight(_first_of(month))) for month in range(month_of(first), month_of(last) + 1))
    return [month for month, at in settled if at > world.opened_at and at < end and at + HOUR > start]


def _changes(world: World, month: int, start: int, end: int) -> pa.Table:
    """Records of the customers whose grade or segment is another one from the first of a month on."""
    grade, segment = _settled(world, month)
    old_grade, old_segment = np.zeros(len(grade), np.int64), np.zeros(len(grade), np.int64)
    before = max(month - 1, 0)
    if world.midnight(_first_of(before)) <= world.opened_at:
        known_grade, known_segment = _at_opening(world)
    else:
        known_grade, known_segment = _settled(world, before)
    old_grade[: len(known_grade)], old_segment[: len(known_segment)] = known_grade, known_segment
    number = np.arange(len(grade), dtype=np.uint64)
    of_month = (number << np.uint64(16)) ^ np.uint64(month)
    within = world.draws.integer("settled at", of_month, HOUR // SECOND) * SECOND
    at = world.midnight(_first_of(month)) + within
    chosen = ((grade != old_grade) | (segment != old_segment)) & (at >= start) & (at < end)
    signed_up = signed_up_at(world, world.midnight(_first_of(month)))[: len(grade)]
    return _table(world, number[chosen], signed_up[chosen], at[chosen], grade[chosen], segment[chosen])


def _table(world: World, owner: U64, signed_up: I64, at: I64, grade: I64, segment: I64) -> pa.Table:
    draws = world.draws
    return pa.table(
        {
            "schema_version": np.ones(len(owner), dtype=np.int64),
            "customer_id": customer_ids(world, owner),
            "grade": pa.array(GRADES).take(pa.array(grade)),
            "segment": pa.array(SEGMENTS).take(pa.array(segment)),
            "signed_up_at": signed_up,
            "signup_channel": pa.array(CHANNELS).take(pa.array(draws.choice("channel", owner, _CHANNEL_WEIGHTS))),
            "region": pa.array(np.char.add("KR-", _REGIONS)).take(
                pa.array(draws.choice("region", owner, _REGION_WEIGHTS))
            ),
            "birth_year": 1950 + draws.integer("birth year", owner, 57),
            "has_marketing_consent": draws.uniform("consent", owner) < 0.62,
            "occurred_at": at,
            "sequence": at,
        }
    )
