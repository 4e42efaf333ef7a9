"""`orders`: what was ordered, and what became of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from data_platform_core.contracts.base import (
    SCHEMA_VERSION,
    Currency,
    CustomerId,
    Instant,
    Law,
    MinorUnits,
    OrderId,
    Part,
    ProductId,
    Record,
    RecordId,
)


class OrderLineV1(Part):
    """One product of an order."""

    product_id: Annotated[ProductId, Field(description="The product ordered.")]
    quantity: Annotated[int, Field(ge=1, le=1000, description="Pieces ordered.")]
    unit_price_minor: Annotated[MinorUnits, Field(description="Price of one piece, in minor units of the currency.")]


class OrderV1(Record):
    """A status of an order, with the whole order in it. One record per status."""

    entity: ClassVar[str] = "orders"
    version: ClassVar[int] = 1
    key: ClassVar[tuple[str, ...]] = ("order_id", "order_event_id")
    owner: ClassVar[str] = "customer_id"
    whole: ClassVar[str] = "order_id"
    is_generated: ClassVar[bool] = True
    model: ClassVar[str] = "fct_order_status"
    laws: ClassVar[tuple[Law, ...]] = (
        Law(
            "total_is_lines_less_discount",
            lambda r: (
                r.total_minor == sum(line.quantity * line.unit_price_minor for line in r.lines) - r.discount_minor
            ),
            "total_minor = aggregate(lines, 0L, (sum, line) -> sum + line.quantity * line.unit_price_minor)"
            " - discount_minor",
        ),
        Law("status_follows_the_order", lambda r: r.occurred_at >= r.ordered_at, "occurred_at >= ordered_at"),
    )

    schema_version: Annotated[Literal[1], SCHEMA_VERSION]
    order_id: Annotated[OrderId, Field(description="The order.")]
    order_event_id: Annotated[RecordId, Field(description="Stable id of this status of the order.")]
    customer_id: Annotated[CustomerId, Field(description="Who ordered.")]
    status: Annotated[Literal["paid", "cancelled", "refunded"], Field(description="What the order has become.")]
    ordered_at: Annotated[Instant, Field(description="When the order was placed and paid.")]
    lines: Annotated[list[OrderLineV1], Field(min_length=1, max_length=100, description="What was ordered.")]
    discount_minor: Annotated[MinorUnits, Field(description="Discount on the whole order, in minor units.")]
    total_minor: Annotated[MinorUnits, Field(description="What was paid, in minor units.")]
    currency: Annotated[Currency, Field(description="ISO 4217 code of all amounts.")]
    payment_method: Annotated[
        Literal["card", "bank_transfer", "mobile_pay", "points"],
        Field(description="How it was paid."),
    ]
