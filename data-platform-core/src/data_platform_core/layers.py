"""Names of topics, tables, paths and schemas. They stand here and nowhere else."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

from data_platform_core.contracts import CONTRACTS, ENTITIES

Layer = Literal["bronze", "silver", "quarantine"]
LAYERS: tuple[Layer, ...] = ("bronze", "silver", "quarantine")

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


def warehouse_table(entity: str) -> str | None:
    """The table of the model that has one row per record of an entity; None where none has."""
    model = CONTRACTS[entity].model
    return f"warehouse.{model}" if model else None


TOPICS = {entity: topic(entity) for entity in ENTITIES}
