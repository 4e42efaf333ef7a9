"""`profiles`: master data of the customers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from data_platform_core.contracts.base import SCHEMA_VERSION, CustomerId, Instant, Record


class ProfileV1(Record):
    """A customer as they are from `occurred_at` on. One record per change; no real person's data."""

    entity: ClassVar[str] = "profiles"
    version: ClassVar[int] = 1
    key: ClassVar[tuple[str, ...]] = ("customer_id", "sequence")
    owner: ClassVar[str] = "customer_id"
    whole: ClassVar[str] = "customer_id"
    is_master: ClassVar[bool] = True
    is_generated: ClassVar[bool] = True
    model: ClassVar[str] = "dim_customer"

    schema_version: Annotated[Literal[1], SCHEMA_VERSION]
    customer_id: Annotated[CustomerId, Field(description="The customer.")]
    grade: Annotated[Literal["bronze", "silver", "gold", "vip"], Field(description="Loyalty grade.")]
    segment: Annotated[
        Literal["new", "bargain", "regular", "family", "premium"],
        Field(description="Marketing segment."),
    ]
    signed_up_at: Annotated[Instant, Field(description="When the customer signed up.")]
    signup_channel: Annotated[
        Literal["organic", "search_ad", "social", "referral", "store"],
        Field(description="What brought the customer."),
    ]
    region: Annotated[str, Field(pattern=r"^KR-[0-9]{2}$", description="ISO 3166-2 code of the region.")]
    birth_year: Annotated[int, Field(ge=1900, le=2100, description="Year of birth.")]
    has_marketing_consent: Annotated[bool, Field(description="Whether marketing may write.")]
