"""What a world is a function of."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np

from data_generator.world.draws import I64, Draws

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
"""Microseconds, the unit of all times in the world."""

GENERATOR_VERSION = 1
"""Raised whenever the same settings make other records."""


@dataclass(frozen=True)
class World:
    """The settings of a world; equal worlds hold equal records."""

    seed: int
    opened_on: date
    customers: int
    products: int
    events_per_day: int
    time_zone: str
    currency: str

    @cached_property
    def draws(self) -> Draws:
        """The random numbers of this world."""
        return Draws(self.seed)

    @cached_property
    def id(self) -> str:
        """A short name of this world, which its ledger entries carry."""
        words = f"{GENERATOR_VERSION}/{sorted(asdict(self).items(), key=lambda item: item[0])}"
        return hashlib.blake2b(words.encode(), digest_size=4).hexdigest()

    def midnight(self, day: date) -> int:
        """The start of a day of the shop, in microseconds since 1970."""
        start = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.time_zone))
        return int(start.timestamp()) * SECOND

    def day_of(self, at: int) -> date:
        """The shop's day at a time."""
        return datetime.fromtimestamp(at / SECOND, ZoneInfo(self.time_zone)).date()

    def days(self, first: date, end: date) -> list[date]:
        """Days from `first` to before `end`."""
        return [first + timedelta(days=n) for n in range((end - first).days)]

    @cached_property
    def opened_at(self) -> int:
        """When the shop opened, in microseconds since 1970."""
        return self.midnight(self.opened_on)

    @cached_property
    def day_starts(self) -> I64:
        """Starts of the shop's days from its opening on, for twenty years: the calendar of the world."""
        return np.array([self.midnight(day) for day in self.days(self.opened_on, self.closes_on)])

    @cached_property
    def week_starts(self) -> I64:
        """Starts of the shop's weeks, counted from its opening."""
        return self.day_starts[::7]

    @cached_property
    def closes_on(self) -> date:
        """The day on which the calendar of the world ends."""
        return self.opened_on + timedelta(days=365 * 20)

    def midnight_before(self, at: I64) -> I64:
        """The start of the shop's day at each time."""
        return self.day_starts[np.searchsorted(self.day_starts, at, side="right") - 1]
