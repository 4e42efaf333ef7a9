"""Records of the four entities within a window, as frames in their contracts' columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from data_generator.world.config import SECOND, World
from data_generator.world.customers import customer_ids, profiles_within
from data_generator.world.draws import I64, U64
from data_generator.world.load import EVERYDAY, Profile
from data_generator.world.orders import Till, order_ids, orders_table, session_products, units_a_week
from data_generator.world.products import categories, category_of, ids_pool, products_within, search_paths
from data_generator.world.rhythm import campaigns
from data_generator.world.visits import (
    CARTS,
    CHOICE_OF_STEP,
    LANDING,
    LIST,
    PURCHASE,
    PUT_BACK,
    REMOVE,
    SEARCH,
    SHOWN_ALIKE,
    STEP_TYPES,
    Floor,
    Sessions,
    Steps,
    step_counter,
)
from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.arrow import arrow_schema
from data_platform_core.errors import UsageError

DEVICES = np.array(["mobile_web", "mobile_app", "desktop", "tablet"])
_DEVICE_WEIGHTS = np.array([0.42, 0.33, 0.20, 0.05])
_SOURCES = (
    ("naver", "search_ad", "brand_search", "https://search.naver.com/"),
    ("google", "search_ad", "generic_search", "https://www.google.com/"),
    ("instagram", "social", "lookbook", "https://www.instagram.com/"),
    ("kakao", "message", "weekly_deals", "https://talk.kakao.com/"),
    ("newsletter", "email", "new_arrivals", None),
)


class Shop:
    """The records of a world under a load profile: of any window, whatever was asked before, the same.

    Windows that follow each other are made fastest. With the number of a customer, it has the records of that
    customer alone, beside all products.
    """

    def __init__(self, world: World, profile: Profile = EVERYDAY, customer: int | None = None) -> None:
        self.world, self.profile, self._customer = world, profile, customer
        self._till = Till(world)
        self._floor: Floor | None = None
        self._floor_at = 0

    def records(self, entity: str, start: int, end: int) -> pl.DataFrame:
        """All records of an entity with event times within [start, end) microseconds, in time order.

        Raises:
            UsageError: the window is not of full seconds, or outside the world's calendar.
        """
        world = self.world
        if start % SECOND or end % SECOND:
            raise UsageError("a window of the world begins and ends on a full second")
        if not world.opened_at <= start <= end <= world.closes_at:
            raise UsageError(
                f"the world's calendar goes from {world.opened_on} to {world.closes_on}: the window is not within it"
            )
        records: pl.DataFrame = getattr(self, f"_{entity}")(start, end).select(_columns(entity))
        if self._customer is not None and "customer_id" in records.columns:
            return records.filter(pl.col("customer_id") == customer_ids(world, np.array([self._customer]))[0].as_py())
        return records

    def _events(self, start: int, end: int) -> pl.DataFrame:
        if self._floor is None or self._floor_at != start:
            self._floor = Floor(self.world, start, customer=self._customer)
        sessions, steps = self._floor.advance(self.profile, end)
        self._floor_at = end
        paid = self._till.sales(self.profile, start, end).paid.counter
        return _events_table(self.world, sessions, _as_stock_allows(sessions, steps, paid))

    def _orders(self, start: int, end: int) -> pl.DataFrame:
        return _by_time("orders", orders_table(self.world, self._till.sales(self.profile, start, end)))

    def _products(self, start: int, end: int) -> pl.DataFrame:
        return _by_time("products", products_within(self.world, start, end, units_a_week(self.world)))

    def _profiles(self, start: int, end: int) -> pl.DataFrame:
        return _by_time("profiles", profiles_within(self.world, start, end))


@cache
def _columns(entity: str) -> list[pl.Expr]:
    """The contract's columns, in its types."""
    nothing = pl.from_arrow(arrow_schema(CONTRACTS[entity]).empty_table())
    assert isinstance(nothing, pl.DataFrame)
    return [pl.col(name).cast(kind) for name, kind in nothing.schema.items()]


def _by_time(entity: str, table: pa.Table) -> pl.DataFrame:
    keys = ["occurred_at", *(name for name in CONTRACTS[entity].key if name != "sequence")]
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.sort(keys)


def _as_stock_allows(sessions: Sessions, steps: Steps, paid: U64) -> Steps:
    """Steps by time; whose basket is sold out puts back what was in it, and is shown what is like it."""
    buys = np.flatnonzero(steps.step == PURCHASE)
    sold_out = buys[~np.isin(sessions.counter[steps.session[buys]], paid)]
    shown = steps[sold_out]
    step = steps.step.copy()
    step[sold_out] = PUT_BACK
    session = np.concatenate([steps.session, shown.session])
    step = np.concatenate([step, np.full(len(sold_out), SHOWN_ALIKE)])
    at = np.concatenate([steps.at, shown.at])
    order = np.argsort(at)
    # what comes in the same microsecond is rare: sorting all by three keys would take three times as long
    is_tie = np.diff(at[order], prepend=-1) == 0
    tied = np.flatnonzero(is_tie | np.append(is_tie[1:], False))
    among = order[tied]
    order[tied] = among[np.lexsort((step[among], sessions.counter[session[among]], at[among]))]
    return Steps(session[order], step[order], at[order])


def _events_table(world: World, sessions: Sessions, steps: Steps) -> pl.DataFrame:
    draws, session, step = world.draws, steps.session, steps.step
    counter = sessions.counter[session]
    choice = CHOICE_OF_STEP[step]
    puts_back = (step == REMOVE) | (step == PUT_BACK)
    in_cart = sessions.has[:, list(CARTS)].sum(axis=1)
    choice = np.where(puts_back, in_cart[session] - 1, choice)
    means = np.flatnonzero(choice >= 0)
    product = np.full(len(step), -1)
    product[means] = session_products(world, sessions, session[means], choice[means])
    is_signup = sessions.is_signup[session] & (step == LANDING)
    return _session_columns(world, sessions)[session].with_columns(
        schema_version=pl.lit(1),
        event_id=_series(draws.long_ids("event", step_counter(counter, step))),
        event_type=_TYPES.gather(np.where(is_signup, len(STEP_TYPES), step)),
        page_path=_page_paths(world, sessions, steps, product, is_signup),
        product_id=_pick(_product_ids(world), product),
        order_id=_some(step == PURCHASE, lambda bought: order_ids(world, counter[bought])),
        occurred_at=pl.Series(steps.at),
        sequence=pl.Series(steps.at),
    )


_TYPES = pl.Series([*STEP_TYPES, "signup"])


def _series(values: pa.Array) -> pl.Series:
    series = pl.from_arrow(values)
    assert isinstance(series, pl.Series)
    return series


def _pick(pool: pl.Series, index: I64) -> pl.Series:
    """Values of a pool, the last of which is null, by their places; that where the place is -1."""
    return pool.gather(np.where(index < 0, len(pool) - 1, index))


def _pool(values: pa.Array) -> pl.Series:
    return _series(values).extend_constant(None, 1).rechunk()


@lru_cache(maxsize=4)
def _product_ids(world: World) -> pl.Series:
    return _pool(ids_pool(world))


def _some(chosen: np.ndarray, make: Callable[[I64], pa.Array]) -> pl.Series:
    """A column that has a value in some rows only."""
    rows = np.flatnonzero(chosen)
    place = np.full(len(chosen), -1)
    place[rows] = np.arange(len(rows))
    return _pick(_pool(make(rows)), place)


@lru_cache(maxsize=4)
def _pages(world: World) -> pl.Series:
    """All pages of the shop: fixed ones, searches and lists by category, products by number."""
    lists = (f"/category/{kind.path}" for kind in categories(world))
    products = pc.binary_join_element_wise("/product/", ids_pool(world), "")
    return _series(pa.concat_arrays([pa.array([*_FIXED_PAGES, *search_paths(world), *lists]), products])).rechunk()


_FIXED_PAGES = ("/", "/deal", "/login", "/signup", "/cart", "/checkout", "/order/complete")
_FIXED_PAGE_OF_STEP = np.array([1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 5, 6, 4, 0])


def _page_paths(world: World, sessions: Sessions, steps: Steps, product: I64, is_signup: np.ndarray) -> pl.Series:
    """The page of each step."""
    kinds, step, session = len(categories(world)), steps.step, steps.session
    searches, lists, products = (len(_FIXED_PAGES) + n * kinds for n in range(3))
    aims = (step == SEARCH) | (step == LIST) | (step == SHOWN_ALIKE)
    is_asked = np.zeros(len(sessions), dtype=bool)
    is_asked[session[aims]] = True
    aim = sessions.focus.copy()
    aimless = np.flatnonzero(is_asked & (aim < 0))
    aim[aimless] = category_of(world, session_products(world, sessions, aimless, np.zeros(len(aimless), np.int64)))
    page = _FIXED_PAGE_OF_STEP[step]
    page = np.where(step == SEARCH, searches + aim[session], page)
    page = np.where((step == LIST) | (step == SHOWN_ALIKE), lists + aim[session], page)
    page = np.where((product >= 0) & (step != REMOVE) & (step != PUT_BACK), products + product, page)
    return _pages(world).gather(np.where(is_signup, 3, page))


@lru_cache(maxsize=4)
def _sources(world: World) -> pl.DataFrame:
    """What brings visits, by number: everyday sources, then campaigns, then nothing."""
    rows = [*_SOURCES, *(("shop", campaign.medium, campaign.name, None) for campaign in campaigns(world))]
    names = ["utm_source", "utm_medium", "utm_campaign", "referrer"]
    return pl.DataFrame([*rows, (None,) * 4], schema=dict.fromkeys(names, pl.String), orient="row")


def _session_columns(world: World, sessions: Sessions) -> pl.DataFrame:
    draws, counter = world.draws, sessions.counter
    is_known = sessions.customer >= 0
    owner = np.maximum(sessions.customer, 0).astype(np.uint64)
    device = _devices(world, sessions, is_known, owner)
    visitor = np.where(
        is_known,
        draws.bits("visitor of customer", owner * np.uint64(4) + device.astype(np.uint64)),
        draws.bits("visitor", counter),
    )
    source = np.where(sessions.source < 0, len(_sources(world)) - 1, sessions.source)
    return _sources(world)[source].with_columns(
        visitor_id=_series(draws.as_ids("vis_", visitor)),
        customer_id=_some(is_known, lambda known: customer_ids(world, owner[known])),
        session_id=_series(draws.ids("ses_", "session", counter)),
        device=pl.Series(DEVICES).gather(device),
    )


def _devices(world: World, sessions: Sessions, is_known: np.ndarray, owner: np.ndarray) -> I64:
    """The device of each session: a customer has one for most visits and another for the rest."""
    draws = world.draws
    at_hand = draws.uniform("which device", sessions.counter)
    usual = draws.choice("usual device", owner, _DEVICE_WEIGHTS)
    other = draws.choice("other device", owner, _DEVICE_WEIGHTS)
    anyone = draws.choice("device", sessions.counter, _DEVICE_WEIGHTS)
    return np.where(is_known, np.where(at_hand < 0.75, usual, other), anyone)
