"""What becomes of customers: cohorts of a day, and the retention that a world has realised beside its contract."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt

import numpy as np

from data_generator.world.config import DAY, World
from data_generator.world.customers import born_on, signed_up_at, visitors_of_day
from data_generator.world.draws import I64

COHORTS = ("new", "active", "returning", "churned")
PERIOD = 30
"""days"""
_QUANTILE = 2.576  # of the normal distribution: a two-sided 99% interval


def cohorts(world: World, day: int) -> I64:
    """The cohort, as a place in COHORTS, of every customer signed up by the end of a day of the calendar.

    New: signed up within the last period. Of the others: active came within it and had come, or signed up, within
    the one before; returning came within it, after a period's absence; churned did not come.
    """
    end = int(world.day_ends[day])
    signed_up = signed_up_at(world, end)
    signed_up = signed_up[: np.searchsorted(signed_up, end)]
    came, had_come = (np.zeros(len(signed_up), dtype=bool) for _ in range(2))
    for back in range(min(2 * PERIOD, day + 1)):
        (came if back < PERIOD else had_come)[visitors_of_day(world, day - back)] = True
    had_come |= signed_up >= end - 2 * PERIOD * DAY
    is_new = signed_up >= end - PERIOD * DAY
    return np.select([is_new, came & had_come, came], [0, 1, 2], 3)


@dataclass(frozen=True)
class Realised:
    """How many of the customers of an age came on that day of their account, and what the contract says."""

    age: int
    customers: int
    came: int
    contract: float

    @property
    def share(self) -> float:
        """Of the customers, those who came; 0 where there are none."""
        return self.came / max(self.customers, 1)

    @property
    def margin(self) -> float:
        """Half the binomial 99% interval of the contract's share."""
        return _QUANTILE * sqrt(self.contract * (1 - self.contract) / max(self.customers, 1))

    @property
    def holds(self) -> bool:
        """Whether the share that came is within that interval."""
        return self.customers == 0 or abs(self.share - self.contract) <= self.margin


def retention(world: World, day: int) -> list[Realised]:
    """The retention up to a day of the calendar of those who signed up since the opening."""
    born = born_on(world, int(world.day_ends[day]))
    points = {int(name[1:]): share for name, share in asdict(world.retention).items()}
    came = dict.fromkeys(points, 0)
    for today in range(day + 1):
        visitors = visitors_of_day(world, today)
        for age in points:
            came[age] += int(np.count_nonzero((born[visitors] == today - age) & (today >= age)))
    due = {age: int(np.count_nonzero((born >= 0) & (born <= day - age))) for age in points}
    return [Realised(age, due[age], came[age], share) for age, share in points.items()]
