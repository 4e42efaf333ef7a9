"""What a world is a function of."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
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

GENERATOR_VERSION = 2
"""Raised whenever the same settings make other records."""


def month_of(day: date) -> int:
    """The month of a day, counted from year 0."""
    return day.year * 12 + day.month - 1


@dataclass(frozen=True)
class Retention:
    """The retention contract: the share of customers who visit the shop n days after they signed up."""

    d1: float = 0.28
    d7: float = 0.13
    d30: float = 0.06


@dataclass(frozen=True)
class Funnel:
    """The conversion contract: the share of sessions that go from one stage to the next.

    Only known customers check out, so `checkout` and `purchase` are shares of their sessions.
    """

    view: float = 0.62
    """of sessions: at least one product is looked at; the others bounce"""
    cart: float = 0.34
    """of sessions with a product: something is put into the cart"""
    checkout: float = 0.55
    """of known customers' sessions with a cart: checkout is begun"""
    purchase: float = 0.70
    """of checkouts: the order is paid, as far as stock allows"""


@dataclass(frozen=True)
class World:
    """The settings of a world; equal worlds hold equal records.

    `customers` and `events_per_day` are those of the shop's first year: so many have signed up by its end, and
    so many records of visits a day are its mean. Both grow with the shop after it.
    """

    seed: int
    opened_on: date
    customers: int
    products: int
    events_per_day: int
    time_zone: str
    currency: str
    country: str = "KR"
    locale: str = "ko_KR"
    growth_per_year: float = 0.25
    known_share: float = 0.55
    retention: Retention = field(default_factory=Retention)
    funnel: Funnel = field(default_factory=Funnel)

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
        return self.moment(datetime(day.year, day.month, day.day))

    def moment(self, local: datetime) -> int:
        """A date and time of the shop, in microseconds since 1970."""
        return int(local.replace(tzinfo=ZoneInfo(self.time_zone)).timestamp()) * SECOND

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
    def day_ends(self) -> I64:
        """Ends of the shop's days; a day that the clocks are changed on has 23 or 25 hours."""
        return np.append(self.day_starts[1:], self.closes_at)

    @cached_property
    def week_starts(self) -> I64:
        """Starts of the shop's weeks, counted from its opening."""
        return self.day_starts[::7]

    @cached_property
    def closes_on(self) -> date:
        """The day on which the calendar of the world ends."""
        return self.opened_on + timedelta(days=365 * 20)

    @cached_property
    def closes_at(self) -> int:
        """When the calendar of the world ends, in microseconds since 1970."""
        return self.midnight(self.closes_on)

    @cached_property
    def months(self) -> I64:
        """The month of each day of the calendar, counted from year 0."""
        return np.array([month_of(day) for day in self.days(self.opened_on, self.closes_on)])

    def day_number(self, at: I64) -> I64:
        """Days since the opening, at each time; -1 before it."""
        return _number_of(self.day_starts, at)

    def week_number(self, at: I64) -> I64:
        """Weeks since the opening, at each time; -1 before it."""
        return _number_of(self.week_starts, at)

    def __hash__(self) -> int:
        return hash(self.id)


def _number_of(starts: I64, at: I64) -> I64:
    """Which of ascending starts was the last before each time; quick, as times asked for together lie in few."""
    if not at.size:
        return np.empty(at.shape, dtype=np.int64)
    low, high = np.searchsorted(starts, [at.min(), at.max()], side="right")
    return np.searchsorted(starts[low:high], at, side="right") + low - 1
