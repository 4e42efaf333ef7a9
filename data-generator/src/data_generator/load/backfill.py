"""A window of the shop's history: whole days of everything, and the master data it refers to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from data_generator.load.units import history_unit
from data_generator.world.config import HOUR, World
from data_platform_core.errors import UsageError
from data_platform_core.ledger.made import Unit


def backfill_units(world: World, first: date, end: date) -> list[Unit]:
    """Units of the days from `first` to before `end`; master data from the shop's opening on.

    Raises:
        UsageError: the window is empty or outside the world's calendar.
    """
    if end <= first:
        raise UsageError(f"the window ends ({end}) before it has begun ({first}): --to must be after --from")
    if first < world.opened_on:
        raise UsageError(f"the shop opened on {world.opened_on}: --from {first} is before that")
    if end >= world.closes_on:
        raise UsageError(f"the world's calendar ends on {world.closes_on}: --to {end} is after that")
    return [*master_units(world, end), *_hourly_units(world, first, end)]


def master_units(world: World, end: date) -> Iterator[Unit]:
    """Units of products and profiles from the shop's opening to before a day."""
    for day in world.days(world.opened_on, end):
        for entity in ("products", "profiles"):
            yield history_unit(world, entity, world.midnight(day), world.midnight(day + timedelta(days=1)))


def _hourly_units(world: World, first: date, end: date) -> Iterator[Unit]:
    for start in range(world.midnight(first), world.midnight(end), HOUR):
        for entity in ("events", "orders"):
            yield history_unit(world, entity, start, start + HOUR)
