"""The laws between tables: what no contract of one entity can say, as queries on the published tables.

What is on its way can break a law for a while: a purchase whose order comes late, a customer's first order that was
published a moment before the customer. So each law has a budget, the share of the rows at hand that may break it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Law:
    """A law, and how its breaches are found."""

    name: str
    entity: str
    says: str
    concerned: str
    """SQL: which rows of the entity, as `r`, the law speaks of"""
    broken: str
    """SQL: which of them break it"""


_NOT_SIGNED_UP = (
    "not exists (select from lake.profiles p where p.customer_id = r.customer_id and p.signed_up_at <= r.{})"
)

LAWS = (
    Law(
        "order_of_a_customer",
        "orders",
        "Every order refers to a customer who had signed up by then.",
        "true",
        _NOT_SIGNED_UP.format("ordered_at"),
    ),
    Law(
        "order_of_products",
        "orders",
        "Every line of an order refers to a product that existed at that time.",
        "true",
        "exists (select from jsonb_array_elements(r.lines) line where not exists (select from lake.products p"
        " where p.product_id = line ->> 'product_id' and p.effective_at <= r.ordered_at))",
    ),
    Law(
        "purchase_with_an_order",
        "events",
        "Every purchase has its order.",
        "r.event_type = 'purchase'",
        "not exists (select from lake.orders o where o.order_id = r.order_id)",
    ),
    Law(
        "customer_after_signing_up",
        "events",
        "A customer acts only after signing up.",
        "r.customer_id is not null",
        _NOT_SIGNED_UP.format("occurred_at"),
    ),
)


def laws_of(entity: str) -> list[Law]:
    """The laws that an entity's rows can break."""
    return [law for law in LAWS if law.entity == entity]


def breaches(law: Law, key: tuple[str, ...], budget: float) -> str:
    """A query for the keys of the rows of `{batch}` that break a law; none as long as they are within the budget.

    The budget is rounded up: of a few rows, too, one may be on its way.
    """
    keys = ", ".join(f"r.{name}" for name in key)
    return (
        "with rows_at_hand as (select * from {batch}),"  # which Great Expectations gives a name of its own
        f" broken as (select {keys} from rows_at_hand r where {law.concerned} and {law.broken})"
        " select * from broken where (select count(*) from broken) >"
        f" ceil({budget} * (select count(*) from rows_at_hand r where {law.concerned}))"
    )
