"""Visits to the shop: sessions as a funnel, drawn per session, laid out as columns of steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from data_generator.world.config import HOUR, MINUTE, SECOND, World
from data_generator.world.draws import I64, U64
from data_generator.world.masters import popularity, signed_up_at

MAX_SESSION = 15 * MINUTE
STEP_TYPES = np.array(
    [
        "page_view",
        "campaign_touch",
        "login",
        "search",
        "click",
        "add_to_cart",
        "remove_from_cart",
        "checkout",
        "purchase",
    ]
)
CLICK, ADD_TO_CART, REMOVE, PURCHASE = 4, 5, 6, 8
BOUNCE, BROWSE, CART, CHECKOUT, BUY = range(5)
_DEPTH_WEIGHTS = np.array([0.34, 0.36, 0.14, 0.06, 0.10])
_KNOWN_SHARE = 0.65
# share of a day's traffic by the hour of the shop's day: low at night, highest in the evening
_HOURLY = np.array(
    [30, 20, 13, 9, 8, 10, 17, 29, 40, 48, 52, 55, 60, 56, 53, 52, 53, 56, 62, 70, 80, 86, 75, 50], float
)
LIVE = np.uint64(1 << 63)


class Traffic(Protocol):
    """Which sessions start when."""

    def starts(self, world: World, start: int, end: int) -> tuple[U64, I64]:
        """Counters and start times of the sessions that start within [start, end)."""
        ...

    def known_before(self, world: World, at: I64) -> I64:
        """Of sessions that start at these times: only who signed up before visits as a customer."""
        ...


class EverydayTraffic:
    """What the shop has anyway: the rhythm of its days."""

    def starts(self, world: World, start: int, end: int) -> tuple[U64, I64]:
        """Sessions by the hour, at an hour's share of the day."""
        counters, times = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        for hour in range(max(start, world.opened_at + 24 * HOUR) // HOUR, -(-end // HOUR)):
            local = int(hour * HOUR - world.midnight_before(np.array([hour * HOUR]))[0]) // HOUR % 24
            expected = world.events_per_day * _HOURLY[local] / _HOURLY.sum() / steps_per_session(world)
            counter = np.uint64(hour << 24) + np.arange(round(expected), dtype=np.uint64)
            at = hour * HOUR + world.draws.integer("starts at", counter, HOUR)
            chosen = (at >= start) & (at < end)
            counters.append(counter[chosen])
            times.append(at[chosen])
        return np.concatenate(counters), np.concatenate(times)

    def known_before(self, world: World, at: I64) -> I64:
        """Whoever has signed up is known."""
        return at


@dataclass(frozen=True)
class LiveTraffic:
    """Traffic at a steady rate, `tps` records a second, its visitors in the shop already."""

    tps: float

    def starts(self, world: World, start: int, end: int) -> tuple[U64, I64]:
        """Sessions by the second, so many that records come at the rate."""
        # the sign-up and the refill every five seconds are two records and an event
        rate = max(self.tps - 0.6, 0.0) / steps_per_session(world)
        seconds = np.arange(start // SECOND, -(-end // SECOND), dtype=np.int64)
        counts = np.floor((seconds + 1) * rate).astype(np.int64) - np.floor(seconds * rate).astype(np.int64)
        second = np.repeat(seconds, counts)
        nth = np.arange(len(second)) - np.repeat(np.cumsum(counts) - counts, counts)
        counter = LIVE | (second.astype(np.uint64) << np.uint64(20)) | nth.astype(np.uint64)
        at = second * SECOND + world.draws.integer("starts at", counter, SECOND)
        chosen = (at >= start) & (at < end)
        return counter[chosen], at[chosen]

    def known_before(self, world: World, at: I64) -> I64:
        """Whoever had signed up before today, as the history has it."""
        return world.midnight_before(at)  # whom the history up to today holds


@dataclass(frozen=True)
class Sessions:
    """Sessions as columns; `counts` has a column per step type."""

    counter: U64
    start: I64
    customer: I64  # number of the customer, or -1
    counts: I64

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> Sessions:
        return Sessions(self.counter[chosen], self.start[chosen], self.customer[chosen], self.counts[chosen])


@dataclass(frozen=True)
class Steps:
    """Steps as columns: of which session (its place), the how-manieth, of which type, when."""

    session: I64
    nth: I64
    nth_of_type: I64
    type: I64
    at: I64


def sessions_of(world: World, traffic: Traffic, start: int, end: int) -> Sessions:
    """The sessions that start within [start, end)."""
    counter, at = traffic.starts(world, start, end)
    draws = world.draws
    customer = draws.integer("customer", counter, world.customers)
    is_known = draws.uniform("is known", counter) < _KNOWN_SHARE
    is_known &= signed_up_at(world)[customer] < traffic.known_before(world, at)
    depth = draws.choice("depth", counter, _DEPTH_WEIGHTS)
    depth = np.where(is_known, depth, np.minimum(depth, CART))  # who buys is known
    clicks = np.where(depth >= BROWSE, 1 + draws.integer("clicks", counter, 4), 0)
    carts = np.where(depth >= CART, np.minimum(clicks, 1 + draws.integer("carts", counter, 3)), 0)
    counts = np.stack(
        [
            np.ones(len(counter), dtype=np.int64),
            has_campaign(world, counter),
            is_known & (draws.uniform("logs in", counter) < 0.3),
            (depth >= BROWSE) & (draws.uniform("searches", counter) < 0.4),
            clicks,
            carts,
            (depth == CART) & (draws.uniform("removes", counter) < 0.3),
            depth >= CHECKOUT,
            depth == BUY,
        ],
        axis=1,
    ).astype(np.int64)
    return Sessions(counter, at, np.where(is_known, customer, -1), counts)


def steps_of(world: World, sessions: Sessions) -> Steps:
    """All steps of sessions, session by session, in their order."""
    types = len(STEP_TYPES)
    totals = sessions.counts.sum(axis=1)
    first = np.cumsum(totals) - totals
    session = np.repeat(np.arange(len(totals)), totals)
    nth = np.arange(totals.sum()) - first[session]
    flat = sessions.counts.ravel()
    step_type = np.repeat(np.tile(np.arange(types), len(totals)), flat)
    nth_of_type = np.arange(len(nth)) - np.repeat(np.cumsum(flat) - flat, flat)
    counter = step_counter(world, sessions.counter[session], nth)
    gap = np.where(nth == 0, 0, 3 * SECOND + world.draws.integer("gap", counter, 56 * SECOND))
    elapsed = np.cumsum(gap)
    since_start = elapsed - elapsed[first][session] if len(elapsed) else elapsed
    return Steps(session, nth, nth_of_type, step_type, sessions.start[session] + since_start)


def step_counter(world: World, session: U64, nth: I64) -> U64:
    """The counter of a session's nth step."""
    with np.errstate(over="ignore"):
        return world.draws.bits("step", session) + nth.astype(np.uint64)


def has_campaign(world: World, counter: U64) -> npt.NDArray[np.bool_]:
    """Which sessions came from a campaign."""
    return world.draws.uniform("has campaign", counter) < 0.4


def chosen_product(world: World, session: U64, nth_of_type: I64) -> I64:
    """The product of a session's nth click; what is put into the cart was clicked before."""
    counter = world.draws.bits("choice", session) ^ nth_of_type.astype(np.uint64)
    return world.draws.choice("product", counter, popularity(world))


@lru_cache(maxsize=4)
def steps_per_session(world: World) -> float:
    """Records that a session makes on average (steps, and an order for each purchase)."""
    counter = np.arange(50_000, dtype=np.uint64)
    late = world.opened_at + 365 * 24 * HOUR

    class _Sample:
        def starts(self, world: World, start: int, end: int) -> tuple[U64, I64]:
            return counter, np.full(len(counter), late, dtype=np.int64)

        def known_before(self, world: World, at: I64) -> I64:
            return at

    counts = sessions_of(world, _Sample(), 0, 0).counts
    return float(counts.sum() + counts[:, PURCHASE].sum()) / len(counter)
