"""Records of the four entities within a window, as Arrow tables in their contracts' columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_generator.world.rhythm import campaigns
from data_generator.world.config import SECOND, World
from data_generator.world.customers import customer_ids, profiles_within
from data_generator.world.draws import I64, U64
from data_generator.world.load import EVERYDAY, Profile
from data_generator.world.orders import Till, order_ids, orders_table, session_products, units_a_week
from data_generator.world.products import categories, category_of, ids_pool, products_within, search_paths
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

    Windows that follow each other are made fastest.
    """

    def __init__(self, world: World, profile: Profile = EVERYDAY) -> None:
        self.world, self.profile = world, profile
        self._till = Till(world)
        self._floor: Floor | None = None
        self._floor_at = 0

    def records(self, entity: str, start: int, end: int) -> pa.Table:
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
        table = self._makers[entity](self, start, end)
        names = arrow_schema(CONTRACTS[entity]).names
        return table.select(names).cast(arrow_schema(CONTRACTS[entity]))

    def _events(self, start: int, end: int) -> pa.Table:
        if self._floor is None or self._floor_at != start:
            self._floor = Floor(self.world, start)
        sessions, steps = self._floor.advance(self.profile, end)
        self._floor_at = end
        paid = self._till.sales(self.profile, start, end).paid.counter
        return _events_table(self.world, sessions, _as_stock_allows(sessions, steps, paid))

    def _orders(self, start: int, end: int) -> pa.Table:
        return _by_time("orders", orders_table(self.world, self._till.sales(self.profile, start, end)))

    def _products(self, start: int, end: int) -> pa.Table:
        return _by_time("products", products_within(self.world, start, end, units_a_week(self.world)))

    def _profiles(self, start: int, end: int) -> pa.Table:
        return _by_time("profiles", profiles_within(self.world, start, end))

    _makers = {"events": _events, "orders": _orders, "products": _products, "profiles": _profiles}


def _by_time(entity: str, table: pa.Table) -> pa.Table:
    keys = ["occurred_at", *(name for name in CONTRACTS[entity].key if name != "sequence")]
    return table.sort_by([(name, "ascending") for name in keys])


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
    order = np.lexsort((step, sessions.counter[session], at))
    return Steps(session[order], step[order], at[order])


def _events_table(world: World, sessions: Sessions, steps: Steps) -> pa.Table:
    draws = world.draws
    session = pa.array(steps.session)
    counter = sessions.counter[steps.session]
    step = steps.step
    choice = CHOICE_OF_STEP[step]
    puts_back = (step == REMOVE) | (step == PUT_BACK)
    in_cart = sessions.has[:, list(CARTS)].sum(axis=1)
    choice = np.where(puts_back, in_cart[steps.session] - 1, choice)
    means = np.flatnonzero(choice >= 0)
    product = np.full(len(step), -1)
    product[means] = session_products(world, sessions, steps.session[means], choice[means])
    is_signup = sessions.is_signup[steps.session] & (step == LANDING)
    types = pa.array([*STEP_TYPES, "signup"])
    of_step = {name: column.take(session) for name, column in _session_columns(world, sessions).items()}
    return pa.table(
        {
            "schema_version": np.ones(len(step), dtype=np.int64),
            "event_id": draws.long_ids("event", step_counter(counter, step)),
            "event_type": types.take(pa.array(np.where(is_signup, len(STEP_TYPES), step))),
            **of_step,
            "page_path": _page_paths(world, sessions, steps.session, step, product, is_signup),
            "product_id": ids_pool(world).take(_or_null(product)),
            "order_id": pc.if_else(pa.array(step == PURCHASE), order_ids(world, counter), pa.scalar(None, pa.string())),
            "occurred_at": steps.at,
            "sequence": steps.at,
        }
    )


def _page_paths(
    world: World, sessions: Sessions, session: I64, step: I64, product: I64, is_signup: np.ndarray
) -> pa.Array:
    """The page of each step, out of a pool: fixed ones, searches and lists by category, products by number."""
    kinds = categories(world)
    fixed = ["/", "/deal", "/login", "/signup", "/cart", "/checkout", "/order/complete"]
    searches, lists = len(fixed), len(fixed) + len(kinds)
    products = lists + len(kinds)
    pool = pa.concat_arrays(
        [
            pa.array([*fixed, *search_paths(world), *(f"/category/{kind.path}" for kind in kinds)]),
            pc.binary_join_element_wise("/product/", ids_pool(world), ""),
        ]
    )
    of_step = np.array([1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 5, 6, 4, 0])
    page = of_step[step]
    aim = sessions.focus.copy()
    first = np.flatnonzero(aim < 0)
    aim[first] = category_of(world, session_products(world, sessions, first, np.zeros(len(first), np.int64)))
    page = np.where(step == SEARCH, searches + aim[session], page)
    page = np.where((step == LIST) | (step == SHOWN_ALIKE), lists + aim[session], page)
    page = np.where((product >= 0) & (step != REMOVE) & (step != PUT_BACK), products + product, page)
    page = np.where(is_signup, 3, page)
    return pool.take(pa.array(page))


def _session_columns(world: World, sessions: Sessions) -> dict[str, pa.Array]:
    draws, counter = world.draws, sessions.counter
    is_known = sessions.customer >= 0
    owner = np.maximum(sessions.customer, 0).astype(np.uint64)
    device = _devices(world, sessions, is_known, owner)
    visitor = np.where(
        is_known,
        draws.bits("visitor of customer", owner * np.uint64(4) + device.astype(np.uint64)),
        draws.bits("visitor", counter),
    )
    names = [campaign.name for campaign in campaigns(world)]
    media = [campaign.medium for campaign in campaigns(world)]
    nothing: list[None] = [None] * len(names)
    pools = (
        [*(s[0] for s in _SOURCES), *(["shop"] * len(names))],
        [*(s[1] for s in _SOURCES), *media],
        [*(s[2] for s in _SOURCES), *names],
        [*(s[3] for s in _SOURCES), *nothing],
    )
    at = _or_null(sessions.source)
    source, medium, campaign, referrer = (pa.array(pool, pa.string()).take(at) for pool in pools)
    return {
        "visitor_id": draws.as_ids("vis_", visitor),
        "customer_id": pc.if_else(pa.array(is_known), customer_ids(world, owner), pa.scalar(None, pa.string())),
        "session_id": draws.ids("ses_", "session", counter),
        "referrer": referrer,
        "device": pa.array(DEVICES).take(pa.array(device)),
        "utm_source": source,
        "utm_medium": medium,
        "utm_campaign": campaign,
    }


def _devices(world: World, sessions: Sessions, is_known: np.ndarray, owner: np.ndarray) -> I64:
    """The device of each session: a customer has one for most visits and another for the rest."""
    draws = world.draws
    at_hand = draws.uniform("which device", sessions.counter)
    usual = draws.choice("usual device", owner, _DEVICE_WEIGHTS)
    other = draws.choice("other device", owner, _DEVICE_WEIGHTS)
    anyone = draws.choice("device", sessions.counter, _DEVICE_WEIGHTS)
    return np.where(is_known, np.where(at_hand < 0.75, usual, other), anyone)


def _or_null(index: I64) -> pa.Array:
    return pa.array(index, mask=index < 0)
