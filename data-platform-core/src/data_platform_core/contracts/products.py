"""`products`: master data of what the shop sells."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from data_platform_core.contracts.base import SCHEMA_VERSION, Currency, Instant, MinorUnits, ProductId, Record


class ProductV1(Record):
    """A product as it is from `occurred_at` on. One record per change."""

    entity: ClassVar[str] = "products"
    version: ClassVar[int] = 1
    key: ClassVar[tuple[str, ...]] = ("product_id", "sequence")
    owner: ClassVar[str] = "product_id"
    whole: ClassVar[str] = "product_id"
    is_master: ClassVar[bool] = True
    is_generated: ClassVar[bool] = True
    model: ClassVar[str] = "dim_product"

    schema_version: Annotated[Literal[1], SCHEMA_VERSION]
    product_id: Annotated[ProductId, Field(description="The product.")]
    category_path: Annotated[
        str,
        Field(pattern=r"^[a-z]+(/[a-z]+)*$", max_length=100, description="Category, root first."),
    ]
    name: Annotated[str, Field(min_length=1, max_length=200, description="Name for people.")]
    price_minor: Annotated[MinorUnits, Field(description="List price, in minor units.")]
    currency: Annotated[Currency, Field(description="ISO 4217 code of the price.")]
    restock_level: Annotated[int, Field(ge=0, le=10**9, description="Pieces in stock right after the last restock.")]
    restocked_at: Annotated[Instant, Field(description="When stock was last filled up.")]
    is_active: Annotated[bool, Field(description="Whether it can be bought.")]
