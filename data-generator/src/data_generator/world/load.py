"""The load profile: records a second over event time, and the sessions that must start to bring them.

Everyday traffic follows the calendar; a live run or a spike overrides it from some second on. A profile only
grows at its end, so what it says of the past never changes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise, zip_longest

import numpy as np

from data_generator.world.config import World
from data_generator.world.draws import F64
from data_generator.world.rhythm import everyday_rate

FOR_EVER = 2**62


@dataclass(frozen=True)
class Change:
    """From second `at` on, `tps` records a second; None: everyday traffic again.

    With `ramp`, the rate moves there from `from_tps` within so many seconds. With `empties`, whoever is in the
    shop leaves it at that second.
    """

    at: int
    tps: float | None
    ramp: int = 0
    from_tps: float = 0.0
    empties: bool = False


@dataclass(frozen=True)
class Profile:
    """The changes of the load, in their order. Without any: everyday traffic."""

    changes: tuple[Change, ...] = ()

    def grown(self, *changes: Change) -> Profile:
        """The profile with later changes behind it."""
        grown = (*self.changes, *changes)
        assert all(a.at <= b.at for a, b in pairwise(grown)), "a profile grows at its end"
        return Profile(grown)

    @cached_property
    def cuts(self) -> list[int]:
        """The seconds at which everybody leaves."""
        return [change.at for change in self.changes if change.empties]

    def _within(self, first: int, end: int) -> tuple[Change, ...]:
        """The change in force at second `first`, and those up to before `end`: all that says something of them."""
        return self.changes[max(bisect_right(self._seconds, first) - 1, 0) : bisect_left(self._seconds, end)]

    @cached_property
    def _seconds(self) -> list[int]:
        return [change.at for change in self.changes]

    def is_override(self, first: int, end: int) -> np.ndarray:
        """Which of the seconds [first, end) have a rate of their own."""
        overridden = np.zeros(end - first, dtype=bool)
        for change in self._within(first, end):
            overridden[max(change.at - first, 0) :] = change.tps is not None
        return overridden

    def rate(self, world: World, first: int, end: int) -> F64:
        """Records of visits a second, of the seconds [first, end)."""
        rate = everyday_rate(world, first, end)
        usual = rate.copy() if self.changes else rate
        for change in self._within(first, end):
            start = max(change.at - first, 0)
            if change.tps is None:
                rate[start:] = usual[start:]
            elif change.ramp:
                elapsed = np.arange(first + start, end) - change.at
                share = np.minimum((elapsed + 1) / change.ramp, 1.0)
                rate[start:] = change.from_tps + (change.tps - change.from_tps) * share
            else:
                rate[start:] = change.tps
        return rate


EVERYDAY = Profile()


@dataclass(frozen=True, eq=False)
class Response:
    """How many records a session brings, and when: what turns a rate of records into starts of sessions."""

    records: float
    """of a session on average"""
    surplus: F64 = field(repr=False)
    """sessions to start beyond rate / records, n seconds after the rate rose by one record a second"""

    @classmethod
    def of_kernel(cls, kernel: F64) -> Response:
        """From the mean number of records in each second of a session's life, the first of which is not 0.

        The starts that bring a rate of one from second 0 on solve sum over u of starts[n - u] * kernel[u] = 1.
        """
        records = float(kernel.sum())
        starts = np.zeros(len(kernel))
        for n in range(len(kernel)):
            starts[n] = (1.0 - starts[:n] @ kernel[n:0:-1]) / kernel[0]
        return cls(records, starts - 1.0 / records)


def session_rate(world: World, profile: Profile, response: Response, first: int, end: int) -> F64:
    """Sessions to start in each of the seconds [first, end), so that records come at the profile's rate.

    After a fall of the rate none may start for a while: visitors finish what they began.
    """
    rate = profile.rate(world, first, end) / response.records
    rises = _rises(world, profile)
    felt = bisect_left(rises, (first - len(response.surplus),))
    for second, rise, until in rises[felt : bisect_left(rises, (end,))]:
        low, high = max(first, second), min(end, second + len(response.surplus), until)
        if low < high:
            rate[low - first : high - first] += rise * response.surplus[low - second : high - second]
    return np.maximum(rate, 0.0)


@lru_cache(maxsize=8)
def _rises(world: World, profile: Profile) -> list[tuple[int, float, int]]:
    """Seconds in which a change raises or lowers the rate, by how much, and until when that is felt; ascending."""
    rises: list[tuple[int, float, int]] = []
    cuts = [*profile.cuts, FOR_EVER]
    for change, following in zip_longest(profile.changes, profile.changes[1:]):
        next_cut = bisect_right(cuts, change.at)
        until = cuts[next_cut]
        last = min(change.at + max(change.ramp, 1), following.at if following else FOR_EVER)
        rates = profile.rate(world, change.at - 1, last)
        if cuts[next_cut - 1] == change.at:  # by this change, or by one before it in the same second
            rates[0] = 0.0
        rises += [(change.at + n, float(rise), until) for n, rise in enumerate(np.diff(rates))]
    return rises
