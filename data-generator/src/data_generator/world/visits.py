"""Visits to the shop: sessions as a funnel, drawn per session, laid out as columns of steps.

Some sessions are the visits that customers make by their lives (one a day on which they come); as many more as
the load asks for are filled in. A session is never cut at the border of a window.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_generator.world.columns import Bools, Columns
from data_generator.world.config import MINUTE, SECOND, World
from data_generator.world.customers import signed_up_at, signups, visitors_of_day
from data_generator.world.draws import I64, U64
from data_generator.world.load import Profile, Response, session_rate
from data_generator.world.products import categories
from data_generator.world.rhythm import (
    campaigns,
    campaigns_within,
    day_position,
    everyday_rate,
    hour_quantile,
    hourly_share,
)
from data_platform_core.errors import UsageError

MAX_SESSION = 15 * MINUTE
STEP_TYPES = (
    "campaign_touch",
    "page_view",
    "login",
    "search",
    "page_view",
    "click",
    "add_to_cart",
    "click",
    "add_to_cart",
    "click",
    "add_to_cart",
    "click",
    "remove_from_cart",
    "checkout",
    "purchase",
    "remove_from_cart",
    "page_view",
)
"""The steps that a session may have, in their order; it has each or not, the last two in place of a purchase."""
TOUCH, LANDING, LOGIN, SEARCH, LIST = range(5)
CLICKS, CARTS = (5, 7, 9, 11), (6, 8, 10)
REMOVE, CHECKOUT, PURCHASE, PUT_BACK, SHOWN_ALIKE = range(12, 17)
CHOICE_OF_STEP = np.array([-1, -1, -1, -1, -1, 0, 0, 1, 1, 2, 2, 3, -1, -1, -1, -1, -1])
"""Which of a session's products a step means; REMOVE and PUT_BACK take out what was put in last."""
EVERYDAY_SOURCES = 5
"""how many sources of visits there are beside campaigns"""
_SENT_BY_SOMETHING = 0.45
_DRAW_OF_STAGE = {"view": "views", "cart": "puts into the cart", "checkout": "checks out", "purchase": "buys"}
_LIFE = np.uint64(1 << 63)
_SHORTEST_GAP, _LONGEST_GAP = 2 * SECOND, 58 * SECOND


@dataclass(frozen=True, eq=False)
class Sessions(Columns):
    """Sessions as columns; `has` has a column per step of STEP_TYPES, up to the purchase."""

    counter: U64
    start: I64
    customer: I64
    """number of the customer, or -1"""
    is_signup: Bools
    source: I64
    """-1 none, below EVERYDAY_SOURCES one of those, above the number of a campaign"""
    focus: I64
    """number of the category the visit is about, or -1"""
    has: Bools


@dataclass(frozen=True, eq=False)
class Steps(Columns):
    """Steps as columns: of which session (its place), which step, when."""

    session: I64
    step: I64
    at: I64


# --- who comes when ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Arrivals(Columns):
    counter: U64
    start: I64
    customer: I64
    is_signup: Bools


@lru_cache(maxsize=4)
def _visits_of_lives(world: World, day: int) -> _Arrivals:
    """The visits of a day that customers make by their lives, the sign-ups among them, by time."""
    back = visitors_of_day(world, day)
    of_day = (back.astype(np.uint64) << np.uint64(14)) | np.uint64(day)
    start = day_position(world, day, hour_quantile(world.draws.uniform("comes at", of_day)))
    new, signed_up = signups(world, int(world.day_starts[day]), int(world.day_ends[day]))
    counter = np.concatenate([of_day, (new << np.uint64(14)) | np.uint64(day)]) | _LIFE
    at = np.concatenate([start, signed_up])
    arrivals = _Arrivals(counter, at, np.concatenate([back, new.astype(np.int64)]), np.arange(len(at)) >= len(back))
    return arrivals[np.argsort(at, kind="stable")]


def _arrivals(world: World, profile: Profile, start: int, end: int) -> _Arrivals:
    """Who comes within [start, end), both on full seconds, in the calendar."""
    start, end = max(start, world.opened_at), min(end, world.closes_at)
    if start >= end:
        nothing = np.empty(0, np.int64)
        return _Arrivals(nothing.astype(np.uint64), nothing, nothing, nothing.astype(bool))
    first, last = (int(n) for n in world.day_number(np.array([start, end - 1])))
    parts = []
    for day in range(first, last + 1):
        of_day = _visits_of_lives(world, day)
        parts.append(of_day[slice(*np.searchsorted(of_day.start, [start, end]))])
        low, high = max(start, int(world.day_starts[day])), min(end, int(world.day_ends[day]))
        parts.append(_fillers(world, profile, day, low // SECOND, -(-high // SECOND), len(of_day.start)))
    return _Arrivals.joined(parts)


def _fillers(world: World, profile: Profile, day: int, first: int, end: int, lives: int) -> _Arrivals:
    """As many sessions more, of one day, as the load asks for beside those of customers' lives."""
    draws, seconds = world.draws, np.arange(first, end, dtype=np.int64)
    rate = session_rate(world, profile, response(world), first, end)
    day_start = int(world.day_starts[day]) // SECOND
    of_lives = lives * hourly_share(world, day)[first - day_start : end - day_start] * 24 / 86_400
    missing = np.maximum(rate - of_lives, 0.0)
    counts = np.floor(missing + draws.uniform("one more", seconds.astype(np.uint64))).astype(np.int64)
    second = np.repeat(seconds, counts)
    nth = np.arange(len(second)) - np.repeat(np.cumsum(counts) - counts, counts)
    counter = (second.astype(np.uint64) << np.uint64(20)) | nth.astype(np.uint64)
    start = second * SECOND + draws.integer("starts at", counter, SECOND)
    known_share = np.clip((world.known_share * rate - of_lives) / np.maximum(missing, 1e-9), 0.0, 1.0)
    place = second - first
    is_known = draws.uniform("is known", counter) < known_share[place]
    return _Arrivals(
        counter, start, np.where(is_known, _who(world, profile, day, counter, start), -1), np.zeros(len(start), bool)
    )


def _who(world: World, profile: Profile, day: int, counter: U64, start: I64) -> I64:
    """The customer of each known session: one who comes on this day; beyond everyday traffic, anyone signed up."""
    pick = world.draws.uniform("who", counter)
    todays = visitors_of_day(world, day)
    chosen = todays[(pick * len(todays)).astype(np.int64)] if len(todays) else np.full(len(pick), -1)
    if profile.changes and len(start):
        low, high = int(start.min()) // SECOND, int(start.max()) // SECOND + 1
        anyone = profile.is_override(low, high)[start // SECOND - low]
        known = np.searchsorted(signed_up_at(world, int(start.max())), start)
        chosen = np.where(anyone, np.where(known > 0, (pick * known).astype(np.int64), -1), chosen)
    return chosen


# --- what they do -----------------------------------------------------------------------------


def _sessions(world: World, arrivals: _Arrivals) -> Sessions:
    draws, counter = world.draws, arrivals.counter
    is_known = arrivals.customer >= 0
    views, carts, checks, buys = _stages(world, counter, is_known)
    clicks = np.where(views, 1 + draws.integer("clicks", counter, 4), 0)
    in_cart = np.where(carts, np.minimum(clicks, 1 + (draws.uniform("carts", counter) ** 2 * 3).astype(np.int64)), 0)
    source, focus = _sources(world, counter, arrivals.start)
    source = np.where(arrivals.is_signup, -1, source)
    has = np.empty((len(counter), PURCHASE + 1), dtype=bool)
    has[:, TOUCH] = source >= 0
    has[:, LANDING] = True
    has[:, LOGIN] = is_known & ~arrivals.is_signup & (draws.uniform("logs in", counter) < 0.3)
    has[:, SEARCH] = views & (draws.uniform("searches", counter) < 0.4)
    has[:, LIST] = views & (draws.uniform("looks at a list", counter) < 0.5)
    for nth, column in enumerate(CLICKS):
        has[:, column] = clicks > nth
    for nth, column in enumerate(CARTS):
        has[:, column] = in_cart > nth
    has[:, REMOVE] = carts & ~checks & (draws.uniform("removes", counter) < 0.3)
    has[:, CHECKOUT] = checks
    has[:, PURCHASE] = buys
    return Sessions(counter, arrivals.start, arrivals.customer, arrivals.is_signup, source, focus, has)


def _stages(world: World, counter: U64, is_known: Bools) -> tuple[Bools, Bools, Bools, Bools]:
    """How far sessions go in the funnel."""
    views = _goes_on(world, "view", counter)
    carts = views & _goes_on(world, "cart", counter)
    checks = carts & is_known & _goes_on(world, "checkout", counter)
    return views, carts, checks, checks & _goes_on(world, "purchase", counter)


def _goes_on(world: World, stage: str, counter: U64) -> Bools:
    """Whether sessions that come before a stage of the funnel go on to it."""
    return world.draws.uniform(_DRAW_OF_STAGE[stage], counter) < getattr(world.funnel, stage)


def _only_buyers(world: World, arrivals: _Arrivals) -> _Arrivals:
    """The arrivals that will want to buy, found stage by stage."""
    left = arrivals[arrivals.customer >= 0]
    for stage in ("cart", "checkout", "view", "purchase"):  # the rarest first
        left = left[_goes_on(world, stage, left.counter)]
    return left


def _sources(world: World, counter: U64, start: I64) -> tuple[I64, I64]:
    """What brought sessions, and the category that their campaign is about."""
    draws = world.draws
    luck = draws.uniform("source", counter)
    everyday = draws.integer("everyday source", counter, EVERYDAY_SOURCES)
    source = np.where(luck < _SENT_BY_SOMETHING, everyday, -1)
    focus = np.full(len(counter), -1)
    if len(start):
        # campaigns take their visits from the other sources, so that a session has as many records with them as without
        for number, campaign in campaigns_within(world, int(start.min()), int(start.max()) + 1):
            share = 1.0 - 0.75 / campaign.lift
            drawn = (start >= campaign.start) & (start < campaign.end) & (luck < _SENT_BY_SOMETHING * share)
            source = np.where(drawn, EVERYDAY_SOURCES + number, source)
            focus = np.where(drawn, campaign.category % len(categories(world)), focus)
    return source, focus


def discount_of(world: World, source: I64) -> I64:
    """Discounts, in percent, of the campaigns that brought sessions; 0 where none did."""
    return _discounts(world)[np.maximum(source - EVERYDAY_SOURCES + 1, 0)]


@lru_cache(maxsize=4)
def _discounts(world: World) -> I64:
    return np.array([0, *(campaign.discount_percent for campaign in campaigns(world))])


def gaps(world: World, counter: U64) -> I64:
    """Time before each step, in microseconds: mostly short, up to a minute."""
    return _SHORTEST_GAP + ((_LONGEST_GAP - _SHORTEST_GAP) * world.draws.uniform("gap", counter) ** 3).astype(np.int64)


def steps_of(world: World, sessions: Sessions) -> Steps:
    """All steps of sessions, session by session, in their order."""
    session, step = np.nonzero(sessions.has)
    totals = np.count_nonzero(sessions.has, axis=1)
    first = np.cumsum(totals) - totals
    gap = gaps(world, step_counter(sessions.counter[session], step))
    gap[first] = 0
    elapsed = np.cumsum(gap)
    at = sessions.start[session] + elapsed - elapsed[first][session] if len(session) else elapsed
    return Steps(session, step, at)


def step_counter(session: U64, step: I64) -> U64:
    """The counter of a session's step, its own among all."""
    with np.errstate(over="ignore"):
        return session * np.uint64(len(STEP_TYPES)) + step.astype(np.uint64)


@lru_cache(maxsize=4)
def response(world: World) -> Response:
    """How many records a session brings and when, from a sample of sessions."""
    counter = np.arange(200_000, dtype=np.uint64) | np.uint64(1 << 62)
    is_known = world.draws.uniform("is known", counter) < world.known_share
    start = world.opened_at + world.draws.integer("starts at", counter, SECOND)
    nobody = np.zeros(len(counter), dtype=bool)
    sessions = _sessions(world, _Arrivals(counter, start, np.where(is_known, 0, -1), nobody))
    steps = steps_of(world, sessions)
    records = np.where(steps.step == PURCHASE, 2.0, 1.0)  # the order beside its event
    second = (steps.at - world.opened_at) // SECOND
    return Response.of_kernel(np.bincount(second, records, minlength=MAX_SESSION // SECOND) / len(counter))


def check_room(world: World) -> None:
    """Whether the load has room for the visits that customers make by their lives.

    Raises:
        UsageError: it has not: conversion, stock and the share of known sessions could not be as the settings say.
    """
    day = 364  # the end of the first year, of which the settings are
    start, end = int(world.day_starts[day]), int(world.day_ends[day])
    lives = len(visitors_of_day(world, day)) + len(signups(world, start, end)[0])
    sessions = everyday_rate(world, start // SECOND, end // SECOND).sum() / response(world).records
    room = sessions * world.known_share
    if lives > room + 3 * room**0.5:  # of a small world, the day may be a busy one
        least = world.events_per_day * lives / room * 1.05
        raise UsageError(
            f"{world.customers:,} customers come {lives:,} times a day by their retention, but "
            f"{world.events_per_day:,} records a day are {room:,.0f} visits of known customers: "
            "ask for fewer customers, or for at least "
            f"{least:,.0f} records a day (CRM_WORLD_EVENTS_PER_DAY)"
        )


# --- the shop floor ---------------------------------------------------------------------------


class Floor:
    """The visits that are in the shop, from a time on: whatever block by block it is asked for, the same steps."""

    def __init__(self, world: World, at: int, buyers_only: bool = False, customer: int | None = None) -> None:
        self._world, self._buyers_only, self._customer = world, buyers_only, customer
        self._at = at - MAX_SESSION - SECOND
        self._inside: Sessions | None = None
        self._from = at

    def advance(self, profile: Profile, end: int) -> tuple[Sessions, Steps]:
        """The steps up to before a time, and the sessions they belong to."""
        world = self._world
        arrivals = _arrivals(world, profile, self._at, end)
        if self._buyers_only:
            arrivals = _only_buyers(world, arrivals)
        if self._customer is not None:
            arrivals = arrivals[arrivals.customer == self._customer]
        sessions = _sessions(world, arrivals)
        if self._inside is not None:
            sessions = Sessions.joined([self._inside, sessions])
        steps = steps_of(world, sessions)
        stays = np.ones(len(steps.at), dtype=bool)
        within = profile.cuts[bisect_left(profile.cuts, (self._from - MAX_SESSION) // SECOND) :]
        for cut in within[: bisect_right(within, end // SECOND + MAX_SESSION // SECOND)]:
            stays &= (steps.at < cut * SECOND) | (sessions.start[steps.session] >= cut * SECOND)
        later = np.zeros(len(sessions), dtype=bool)
        later[steps.session[stays & (steps.at >= end)]] = True
        self._inside = sessions[later]
        here = stays & (steps.at >= self._from) & (steps.at < end)
        self._at = self._from = end
        return sessions, steps[here]
