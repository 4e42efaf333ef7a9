"""Orders: what lies in the baskets, what stock allows, and what becomes of the orders later.

Stock is what makes orders depend on each other. The dependence is cut at each week's refill, so a window of
orders needs its own week of purchases, and the two weeks before it for cancellations and refunds.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_generator.world.config import DAY, HOUR, MINUTE, SECOND, World
from data_generator.world.customers import customer_ids, inclination
from data_generator.world.draws import I64, U64
from data_generator.world.load import FOR_EVER, Profile
from data_generator.world.products import (
    chosen_products,
    ids_pool,
    price_minor,
    stock_levels,
    stock_week,
)
from data_generator.world.visits import CARTS, PURCHASE, Floor, Sessions, discount_of, response

PAYMENTS = np.array(["card", "bank_transfer", "mobile_pay", "points"])
_PAYMENT_WEIGHTS = np.array([0.55, 0.10, 0.32, 0.03])
_CANCELLED, _REFUNDED = 0.04, 0.035
_SOONEST_CANCELLED, _LATEST_CANCELLED = 5 * MINUTE, DAY
_SOONEST_REFUNDED, _LATEST_REFUNDED = 2 * DAY, 14 * DAY
_RECORDS_A_BLOCK = 500_000
_BLOCK_OF_OVERRIDE = 10 * MINUTE


@dataclass(frozen=True, eq=False)
class Orders:
    """Orders as columns, and their lines; `line_end` says where each order's lines end."""

    counter: U64
    customer: I64
    ordered_at: I64
    percent_off: I64
    line_end: I64
    product: I64
    quantity: I64
    price: I64

    @property
    def _order_of_line(self) -> I64:
        return np.repeat(np.arange(len(self.counter)), np.diff(self.line_end, prepend=0))

    def chosen(self, orders: npt.NDArray[np.bool_]) -> Orders:
        """Some of the orders, with their lines."""
        return self.with_lines(orders[self._order_of_line]).nonempty() if not orders.all() else self

    def with_lines(self, lines: npt.NDArray[np.bool_]) -> Orders:
        """All orders, with some of their lines."""
        left = np.bincount(self._order_of_line, weights=lines, minlength=len(self.counter)).astype(np.int64)
        return Orders(
            self.counter, self.customer, self.ordered_at, self.percent_off, np.cumsum(left),
            self.product[lines], self.quantity[lines], self.price[lines],
        )  # fmt: skip

    def nonempty(self) -> Orders:
        """The orders that have lines."""
        some = np.diff(self.line_end, prepend=0) > 0
        return Orders(
            self.counter[some], self.customer[some], self.ordered_at[some], self.percent_off[some],
            self.line_end[some], self.product, self.quantity, self.price,
        )  # fmt: skip


def _joined(parts: list[Orders]) -> Orders:
    columns = {c.name: np.concatenate([getattr(part, c.name) for part in parts]) for c in fields(Orders)}
    counts = [np.diff(part.line_end, prepend=0) for part in parts]
    return Orders(**columns | {"line_end": np.cumsum(np.concatenate(counts))})


def _wanted(world: World, sessions: Sessions, buyer: I64, at: I64) -> Orders:
    """What buyers have in their baskets, by time."""
    by_time = np.lexsort((sessions.counter[buyer], at))
    buyers, at = sessions[buyer[by_time]], at[by_time]
    in_cart = buyers.has[:, list(CARTS)]
    order, nth = np.nonzero(in_cart)
    product = session_products(world, buyers, order, nth)
    counter = buyers.counter[order] * np.uint64(4) + nth.astype(np.uint64)
    month = world.months[world.day_number(at)]
    inclined = inclination(world, buyers.customer, month)[order]
    quantity = 1 + (1.5 * inclined * world.draws.uniform("quantity", counter) ** 2).astype(np.int64)
    coupon = np.where(world.draws.uniform("has a coupon", buyers.counter) < 0.12, 10, 0)
    price = price_minor(world, product, stock_week(world, product, at[order]))
    return Orders(
        buyers.counter, buyers.customer, at, np.maximum(discount_of(world, buyers.source), coupon),
        np.cumsum(in_cart.sum(axis=1)), product, quantity, price,
    )  # fmt: skip


def session_products(world: World, sessions: Sessions, session: I64, nth: I64) -> I64:
    """The nth products that sessions look at; what is put into the cart was looked at before."""
    week = world.week_number(sessions.start[session])
    counter = sessions.counter[session] * np.uint64(4) + nth.astype(np.uint64)
    share = world.draws.uniform("product", counter)
    focus = sessions.focus[session]
    product = np.empty(len(session), dtype=np.int64)
    for number in np.unique(week):
        chosen = week == number
        product[chosen] = chosen_products(world, int(number), share[chosen], focus[chosen])
    return product


_NOTHING = Orders(np.empty(0, np.uint64), *[np.empty(0, np.int64)] * 7)


@lru_cache(maxsize=4)
def units_a_week(world: World) -> float:
    """Pieces that everyday traffic of the first year is expected to ask for in a week."""
    sessions = world.events_per_day * 7 / response(world).records
    rates = world.funnel
    buyers = world.known_share * rates.view * rates.cart * rates.checkout * rates.purchase
    return sessions * buyers * 1.41 * 1.20  # lines of an order and pieces of a line, on average


@dataclass(frozen=True, eq=False)
class Later:
    """What becomes of orders after they are paid: what, of which orders, when."""

    status: str
    orders: Orders
    at: I64

    def within(self, start: int, end: int) -> Later:
        """What happens within [start, end)."""
        chosen = (self.at >= start) & (self.at < end)
        return Later(self.status, self.orders.chosen(chosen), self.at[chosen])


@dataclass(frozen=True, eq=False)
class Sales:
    """The orders paid within a window, and what becomes within it of those paid before."""

    paid: Orders
    later: list[Later]


class Till:
    """The sales of the shop: whatever window is asked for, and in which order, the same sales.

    Windows that follow each other are cheap; one before the last begins anew three weeks earlier.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._block = max(min(24, 24 * _RECORDS_A_BLOCK // world.events_per_day), 1) * HOUR
        self._at = FOR_EVER
        self._window = (0, 0)
        self._sales = Sales(_NOTHING, [])
        self._due: list[Later] = []

    def sales(self, profile: Profile, start: int, end: int) -> Sales:
        """The sales within [start, end), by time."""
        if (start, end) == self._window:
            return self._sales
        if start < self._at:
            self._open(start - _LATEST_REFUNDED)
        paid = [_NOTHING]
        while self._at < end:
            is_everyday = not profile.is_override(self._at // SECOND, (self._at + self._block) // SECOND).any()
            until = min(end, self._at + (self._block if is_everyday else _BLOCK_OF_OVERRIDE))
            until = min(until, start) if self._at < start else until
            orders = self._advance(profile, until)
            if self._at > start:
                paid.append(orders)
        later = [due.within(start, end) for due in self._due]
        self._due = [due.within(end, FOR_EVER) for due in self._due]
        self._window, self._sales = (start, end), Sales(_joined(paid), later)
        return self._sales

    def _open(self, at: int) -> None:
        world = self._world
        at = max(at, world.opened_at)
        week = int(world.week_number(np.array([at]))[0])
        self._at = max(int(world.week_starts[week]) - 6 * HOUR, world.opened_at)
        self._floor = Floor(world, self._at, buyers_only=True)
        self._week = stock_week(world, np.arange(world.products), np.full(world.products, self._at))
        self._asked_for = np.zeros(world.products, dtype=np.int64)
        self._due = [Later(status, _NOTHING, _NOTHING.ordered_at) for status in ("cancelled", "refunded")]

    def _advance(self, profile: Profile, end: int) -> Orders:
        sessions, steps = self._floor.advance(profile, end)
        buys = steps.step == PURCHASE
        orders = _wanted(self._world, sessions, steps.session[buys], steps.at[buys])
        orders = self._granted(orders) if len(orders.counter) else orders
        self._due = [
            Later(due.status, _joined([due.orders, new.orders]), np.concatenate([due.at, new.at]))
            if len(new.at)
            else due
            for due, new in zip(self._due, _fates(self._world, orders), strict=True)
        ]
        self._at = end
        return orders

    def _granted(self, wanted: Orders) -> Orders:
        """What stock allows: a product is sold out until its next refill once more is asked for than there was."""
        world, product = self._world, wanted.product
        at = np.repeat(wanted.ordered_at, np.diff(wanted.line_end, prepend=0))
        week = stock_week(world, product, at)
        order = np.lexsort((np.arange(len(product)), week, product))
        sorted_product, sorted_week = product[order], week[order]
        is_first = np.ones(len(order), dtype=bool)
        is_first[1:] = (sorted_product[1:] != sorted_product[:-1]) | (sorted_week[1:] != sorted_week[:-1])
        group = np.cumsum(is_first) - 1
        first = np.flatnonzero(is_first)
        asked = np.cumsum(wanted.quantity[order])
        before = np.where(
            self._week[sorted_product[first]] == sorted_week[first], self._asked_for[sorted_product[first]], 0
        )
        asked = asked - (asked[first] - wanted.quantity[order][first])[group] + before[group]
        levels = stock_levels(world, sorted_product[first], sorted_week[first], units_a_week(world))
        granted = np.empty(len(order), dtype=bool)
        granted[order] = asked <= levels[group]
        last = np.append(first[1:], len(order)) - 1  # groups of a product are in the order of weeks: the last one stays
        self._week[sorted_product[last]] = sorted_week[last]
        self._asked_for[sorted_product[last]] = asked[last]
        return wanted.with_lines(granted).nonempty()


def _fates(world: World, orders: Orders) -> tuple[Later, Later]:
    """Which of the orders are cancelled, which refunded, and when."""
    fate = world.draws.uniform("fate of the order", orders.counter)
    luck = world.draws.uniform("delay of its fate", orders.counter)
    after = _SOONEST_CANCELLED * (_LATEST_CANCELLED / _SOONEST_CANCELLED) ** luck
    is_so = fate < _CANCELLED
    cancelled = Later("cancelled", orders.chosen(is_so), (orders.ordered_at + after.astype(np.int64))[is_so])
    after = _SOONEST_REFUNDED + (_LATEST_REFUNDED - _SOONEST_REFUNDED) * luck
    is_so = (fate >= _CANCELLED) & (fate < _CANCELLED + _REFUNDED)
    return cancelled, Later("refunded", orders.chosen(is_so), (orders.ordered_at + after.astype(np.int64))[is_so])


# --- records ----------------------------------------------------------------------------------


def orders_table(world: World, sales: Sales) -> pa.Table:
    """The order records of sales."""
    tables = [_table(world, later.orders, later.status, later.at) for later in sales.later]
    return pa.concat_tables([_table(world, sales.paid, "paid", sales.paid.ordered_at), *tables])


def _table(world: World, orders: Orders, status: str, at: I64) -> pa.Table:
    draws, count = world.draws, len(orders.counter)
    offsets = np.concatenate([[0], orders.line_end]).astype(np.int32)
    lines = pa.StructArray.from_arrays(
        [ids_pool(world).take(pa.array(orders.product)), pa.array(orders.quantity), pa.array(orders.price)],
        names=["product_id", "quantity", "unit_price_minor"],
    )
    sums = np.concatenate([[0], np.cumsum(orders.quantity * orders.price)])
    gross = sums[offsets[1:]] - sums[offsets[:-1]]
    discount = gross * orders.percent_off // 100
    return pa.table(
        {
            "schema_version": np.ones(count, dtype=np.int64),
            "order_id": order_ids(world, orders.counter),
            "order_event_id": draws.long_ids(f"order {status}", orders.counter),
            "customer_id": customer_ids(world, orders.customer),
            "status": pa.repeat(status, count),
            "ordered_at": orders.ordered_at,
            "lines": pa.ListArray.from_arrays(pa.array(offsets), lines),
            "discount_minor": discount,
            "total_minor": gross - discount,
            "currency": pa.repeat(world.currency, count),
            "payment_method": pa.array(PAYMENTS).take(
                pa.array(draws.choice("payment", orders.counter, _PAYMENT_WEIGHTS))
            ),
            "occurred_at": at,
            "sequence": at,
        }
    )


def order_ids(world: World, session: U64) -> pa.Array:
    """Ids of the orders that sessions end with."""
    return world.draws.ids("ord_", "order", session)
