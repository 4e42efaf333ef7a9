"""Records of the four entities within a window, as Arrow tables in their contracts' columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_generator.world import masters
from data_generator.world.config import HOUR, World
from data_generator.world.draws import I64, U64
from data_generator.world.visits import (
    ADD_TO_CART,
    CLICK,
    MAX_SESSION,
    PURCHASE,
    REMOVE,
    STEP_TYPES,
    LiveTraffic,
    Sessions,
    Steps,
    Traffic,
    chosen_product,
    has_campaign,
    sessions_of,
    step_counter,
    steps_of,
)
from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.arrow import arrow_schema

DEVICES = np.array(["mobile_web", "mobile_app", "desktop", "tablet"])
_DEVICE_WEIGHTS = np.array([0.42, 0.33, 0.20, 0.05])
_CAMPAIGNS = (
    ("naver", "search_ad", "brand_search", "https://search.naver.com/"),
    ("google", "search_ad", "generic_search", "https://www.google.com/"),
    ("instagram", "social", "autumn_lookbook", "https://www.instagram.com/"),
    ("kakao", "message", "weekly_deals", "https://talk.kakao.com/"),
    ("newsletter", "email", "member_days", None),
)
_PATHS = np.array(["/", "/deal", "/login", "/search", "/product", "/product", "/cart", "/checkout", "/order/complete"])
PAYMENTS = np.array(["card", "bank_transfer", "mobile_pay", "points"])
_PAYMENT_WEIGHTS = np.array([0.55, 0.10, 0.32, 0.03])
_STATUS_DELAYS = (("cancelled", 1), ("cancelled", 3), ("refunded", 24), ("refunded", 48))
_STATUS_WEIGHTS = np.array([0.03, 0.02, 0.015, 0.015])


def records_of(world: World, entity: str, traffic: Traffic, start: int, end: int) -> pa.Table:
    """All records of an entity with event times within [start, end) microseconds, in time order."""
    table = _MAKERS[entity](world, traffic, start, end)
    contract = CONTRACTS[entity]
    order = [("occurred_at", "ascending"), *((name, "ascending") for name in contract.key)]
    return table.select(arrow_schema(contract).names).cast(arrow_schema(contract)).sort_by(order)


def events_of(world: World, traffic: Traffic, start: int, end: int) -> pa.Table:
    """Steps of visitors, and the sign-ups."""
    sessions = sessions_of(world, traffic, start - MAX_SESSION, end)
    steps = steps_of(world, sessions)
    chosen = (steps.at >= start) & (steps.at < end)
    steps = Steps(*(getattr(steps, name)[chosen] for name in Steps.__dataclass_fields__))
    return pa.concat_tables([_steps_table(world, sessions, steps), _signup_events(world, traffic, start, end)])


def _steps_table(world: World, sessions: Sessions, steps: Steps) -> pa.Table:
    draws = world.draws
    per_session = _session_columns(world, sessions)
    of_step = {name: column.take(pa.array(steps.session)) for name, column in per_session.items()}
    counter = sessions.counter[steps.session]
    product = chosen_product(world, counter, steps.nth_of_type)
    means_product = np.isin(steps.type, (CLICK, ADD_TO_CART, REMOVE))
    is_purchase = steps.type == PURCHASE
    return pa.table(
        {
            "schema_version": np.ones(len(steps.at), dtype=np.int64),
            "event_id": draws.long_ids("event", step_counter(world, counter, steps.nth)),
            "event_type": STEP_TYPES[steps.type],
            **of_step,
            "page_path": _PATHS[steps.type],
            "product_id": _where(means_product, masters.product_ids(world, product)),
            "order_id": _where(is_purchase, draws.ids("ord_", "order", counter)),
            "occurred_at": steps.at,
            "sequence": steps.at,
        }
    )


def _session_columns(world: World, sessions: Sessions) -> dict[str, pa.Array]:
    draws, counter = world.draws, sessions.counter
    is_known = sessions.customer >= 0
    owner = np.maximum(sessions.customer, 0).astype(np.uint64)
    campaign = np.where(
        has_campaign(world, counter), draws.integer("campaign", counter, len(_CAMPAIGNS)), len(_CAMPAIGNS)
    )
    source, medium, name, referrer = (
        pa.array([*column, None], pa.string()).take(pa.array(campaign)) for column in zip(*_CAMPAIGNS, strict=True)
    )
    return {
        "visitor_id": pc.if_else(
            is_known, draws.ids("vis_", "visitor of customer", owner), draws.ids("vis_", "visitor", counter)
        ),
        "customer_id": _where(is_known, masters.customer_ids(world, owner)),
        "session_id": draws.ids("ses_", "session", counter),
        "referrer": referrer,
        "device": pa.array(DEVICES[draws.choice("device", counter, _DEVICE_WEIGHTS)]),
        "utm_source": source,
        "utm_medium": medium,
        "utm_campaign": name,
    }


def _signup_events(world: World, traffic: Traffic, start: int, end: int) -> pa.Table:
    owner, at = _signups(world, traffic, start, end)
    draws, count = world.draws, len(at)
    nothing = pa.nulls(count, pa.string())
    return pa.table(
        {
            "schema_version": np.ones(count, dtype=np.int64),
            "event_id": draws.long_ids("sign-up event", owner),
            "event_type": pa.repeat("signup", count),
            "visitor_id": draws.ids("vis_", "visitor of customer", owner),
            "customer_id": masters.customer_ids(world, owner),
            "session_id": draws.ids("ses_", "sign-up session", owner),
            "referrer": nothing,
            "device": DEVICES[draws.choice("device", owner, _DEVICE_WEIGHTS)],
            "utm_source": nothing,
            "utm_medium": nothing,
            "utm_campaign": nothing,
            "page_path": pa.repeat("/signup", count),
            "product_id": nothing,
            "order_id": nothing,
            "occurred_at": at,
            "sequence": at,
        }
    )


def orders_of(world: World, traffic: Traffic, start: int, end: int) -> pa.Table:
    """Orders paid within the window, and what became within it of those paid before."""
    tables = [_orders_table(world, traffic, "paid", 0, start, end)]
    if not isinstance(traffic, LiveTraffic):  # live orders are too young to be cancelled within their window
        for place, (status, hours) in enumerate(_STATUS_DELAYS):
            tables.append(_orders_table(world, traffic, status, hours * HOUR, start, end, place))
    return pa.concat_tables(tables)


def _orders_table(
    world: World, traffic: Traffic, status: str, delay: int, start: int, end: int, fate: int | None = None
) -> pa.Table:
    draws = world.draws
    sessions = sessions_of(world, traffic, start - delay - MAX_SESSION, end - delay)
    sessions = sessions[sessions.counts[:, PURCHASE] == 1]
    if fate is not None:
        weights = np.append(_STATUS_WEIGHTS, 1 - _STATUS_WEIGHTS.sum())
        sessions = sessions[draws.choice("fate of the order", sessions.counter, weights) == fate]
    steps = steps_of(world, sessions)
    ordered_at = steps.at[steps.type == PURCHASE]
    chosen = (ordered_at + delay >= start) & (ordered_at + delay < end)
    sessions, ordered_at = sessions[chosen], ordered_at[chosen]
    lines, gross = _lines(world, sessions, ordered_at)
    has_coupon = draws.uniform("has a coupon", sessions.counter) < 0.2
    discount = np.where(has_coupon, gross // 10, 0)
    owner = sessions.customer.astype(np.uint64)
    occurred_at = ordered_at + delay
    return pa.table(
        {
            "schema_version": np.ones(len(gross), dtype=np.int64),
            "order_id": draws.ids("ord_", "order", sessions.counter),
            "order_event_id": draws.long_ids(f"order {status}", sessions.counter),
            "customer_id": masters.customer_ids(world, owner),
            "status": pa.repeat(status, len(gross)),
            "ordered_at": ordered_at,
            "lines": lines,
            "discount_minor": discount,
            "total_minor": gross - discount,
            "currency": pa.repeat(world.currency, len(gross)),
            "payment_method": PAYMENTS[draws.choice("payment", sessions.counter, _PAYMENT_WEIGHTS)],
            "occurred_at": occurred_at,
            "sequence": occurred_at,
        }
    )


def _lines(world: World, sessions: Sessions, ordered_at: I64) -> tuple[pa.Array, I64]:
    """Order lines from what lies in the cart, and each order's sum."""
    counts = sessions.counts[:, ADD_TO_CART]
    order = np.repeat(np.arange(len(counts)), counts)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    nth = np.arange(len(order)) - offsets[order]
    counter = sessions.counter[order]
    product = chosen_product(world, counter, nth)
    quantity = 1 + world.draws.integer("quantity", world.draws.bits("line", counter) ^ nth.astype(np.uint64), 3) // 2
    price = masters.price_minor(world, product, ordered_at[order])
    structs = pa.StructArray.from_arrays(
        [masters.product_ids(world, product), pa.array(quantity), pa.array(price)],
        names=["product_id", "quantity", "unit_price_minor"],
    )
    gross = np.bincount(order, weights=(quantity * price).astype(float), minlength=len(counts)).astype(np.int64)
    return pa.ListArray.from_arrays(pa.array(offsets), structs), gross


def products_of(world: World, traffic: Traffic, start: int, end: int) -> pa.Table:
    """Versions of products that begin within the window."""
    find = masters.live_refills if isinstance(traffic, LiveTraffic) else masters.refills
    return masters.products_table(world, *find(world, start, end))


def profiles_of(world: World, traffic: Traffic, start: int, end: int) -> pa.Table:
    """Versions of customers that begin within the window: sign-ups, and changes of grade."""
    owner, at = _signups(world, traffic, start, end)
    signed = masters.profiles_table(world, owner, at, at, np.zeros(len(at), dtype=np.int64))
    if isinstance(traffic, LiveTraffic):
        return signed
    changed, changed_at, grade = masters.grade_changes(world, start, end)
    before = masters.signed_up_at(world)[changed.astype(np.int64)]
    return pa.concat_tables([signed, masters.profiles_table(world, changed, before, changed_at, grade)])


def _signups(world: World, traffic: Traffic, start: int, end: int) -> tuple[U64, I64]:
    find = masters.live_signups if isinstance(traffic, LiveTraffic) else masters.signups
    return find(world, start, end)


def _where(condition: np.ndarray, values: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(condition), values, pa.scalar(None, pa.string()))


_MAKERS = {"events": events_of, "orders": orders_of, "products": products_of, "profiles": profiles_of}
