"""Names of topics, tables, paths and schemas. They stand here and nowhere else."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

from data_platform_core.contracts import CONTRACTS, ENTITIES

Layer = Literal["bronze", "silver", "quarantine"]
LAYERS: tuple[Layer, ...] = ("bronze", "silver", "quarantine")

OWNER_FIELD = {
    "events": "customer_id",
    "orders": "customer_id",
    "products": "product_id",
    "profiles": "customer_id",
}
"""The field whose value is a message's key in Kafka; an anonymous event is keyed by its visitor."""

WHOLE_FIELD = {
    "events": "session_id",
    "orders": "order_id",
    "products": "product_id",
    "profiles": "customer_id",
}
"""The field that says of what whole a record is a part: models that sum it up are made again when it goes."""

WAREHOUSE_TABLE = {
    "events": "warehouse.fct_events",
    "orders": "warehouse.fct_order_status",
    "products": "warehouse.dim_product",
    "profiles": "warehouse.dim_customer",
}
"""The model of the warehouse that has one row per record of an entity."""

ACTIVITY_MART = "marts.activity_by_day"
REVENUE_MART = "marts.revenue_by_segment_and_day"


_INSTANT = "%Y%m%dT%H%M%SZ"
_WINDOW = re.compile(r"(\d{8}T\d{6}Z)--(\d{8}T\d{6}Z)\.[a-z]+$")


def topic(entity: str) -> str:
    """The Kafka topic of an entity."""
    return f"crm.{entity}.v{CONTRACTS[entity].version}"


def lake_table(root: str, layer: Layer, entity: str) -> str:
    """The address of a Delta table below the lake's root."""
    return f"{root}/{layer}/{entity}"


def checkpoint(root: str, entity: str) -> str:
    """The address of the checkpoint of an entity's stream."""
    return f"{root}/checkpoints/{entity}"


def recovered_start(root: str, entity: str) -> str:
    """The address of what a recovery left: where a new checkpoint of the entity begins."""
    return f"{root}/checkpoints/{entity}.start.json"


def lease(root: str) -> str:
    """The address of the lake's lease: who may write its tables."""
    return f"{root}/owner.json"


def window_name(start: datetime, end: datetime) -> str:
    """The name, without its ending, of a file that holds the records of [start, end)."""
    return "--".join(at.astimezone(UTC).strftime(_INSTANT) for at in (start, end))


def window_of(name: str) -> tuple[datetime, datetime] | None:
    """The window that a file's name tells; None where it tells none."""
    found = _WINDOW.search(name)
    if found is None:
        return None
    start, end = (datetime.strptime(word, _INSTANT).replace(tzinfo=UTC) for word in found.groups())
    return start, end


def published_table(entity: str) -> str:
    """The PostgreSQL table that the publish writes."""
    return f"lake.{entity}"


MASTERS = ("products", "profiles")
"""Entities that are versions of an owner, each valid until the next."""

TOPICS = {entity: topic(entity) for entity in ENTITIES}
