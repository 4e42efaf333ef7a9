"""`events`: one step of a visitor in the shop."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from data_platform_core.contracts.base import (
    SCHEMA_VERSION,
    CustomerId,
    Law,
    OrderId,
    ProductId,
    Record,
    RecordId,
    SessionId,
    VisitorId,
)


class EventV1(Record):
    """One step of a visitor. One record per step; appended, never changed."""

    entity: ClassVar[str] = "events"
    version: ClassVar[int] = 1
    key: ClassVar[tuple[str, ...]] = ("event_id",)
    owner: ClassVar[str] = "customer_id"
    whole: ClassVar[str] = "session_id"
    is_generated: ClassVar[bool] = True
    model: ClassVar[str] = "fct_events"
    laws: ClassVar[tuple[Law, ...]] = (
        Law(
            "purchase_has_its_order",
            lambda r: (r.event_type == "purchase") == (r.order_id is not None),
            "(event_type = 'purchase') = (order_id is not null)",
        ),
    )

    schema_version: Annotated[Literal[1], SCHEMA_VERSION]
    event_id: Annotated[RecordId, Field(description="Stable id of the step.")]
    event_type: Annotated[
        Literal[
            "page_view",
            "search",
            "click",
            "add_to_cart",
            "remove_from_cart",
            "checkout",
            "purchase",
            "signup",
            "login",
            "campaign_touch",
        ],
        Field(description="What the visitor did."),
    ]
    visitor_id: Annotated[VisitorId, Field(description="The browser or app, known or anonymous.")]
    customer_id: Annotated[CustomerId | None, Field(description="The customer; null while the visit is anonymous.")]
    session_id: Annotated[SessionId, Field(description="The visit this step belongs to.")]
    page_path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=200, description="Page within the shop.")]
    referrer: Annotated[
        str | None,
        Field(pattern=r"^https?://[!-~]+$", max_length=500, description="Where the visit came from."),
    ]
    device: Annotated[
        Literal["mobile_web", "mobile_app", "desktop", "tablet"],
        Field(description="Kind of device."),
    ]
    utm_source: Annotated[str | None, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=50, description="UTM source.")]
    utm_medium: Annotated[str | None, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=50, description="UTM medium.")]
    utm_campaign: Annotated[str | None, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=80, description="UTM campaign.")]
    product_id: Annotated[ProductId | None, Field(description="The product, where one is meant.")]
    order_id: Annotated[OrderId | None, Field(description="The order; set on every purchase.")]
