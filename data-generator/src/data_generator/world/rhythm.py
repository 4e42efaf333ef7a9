"""The rhythm of the shop: hours, weekdays, holidays, growth, campaigns – how many records fall on a second.

All of it is known in advance: traffic at a time is a function of the world's settings alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

import numpy as np

from data_generator.world.config import HOUR, SECOND, World
from data_generator.world.draws import F64, I64

# share of a day's traffic by the hour of the shop's day: low at night, highest in the evening
HOURLY = np.array([30, 20, 13, 9, 8, 10, 17, 29, 40, 48, 52, 55, 60, 56, 53, 52, 53, 56, 62, 70, 80, 86, 75, 50], float)
HOURLY /= HOURLY.sum()
_WEEKLY = np.array([1.02, 1.0, 0.98, 0.97, 0.94, 1.02, 1.07])  # Monday first: online shops sell at weekends
_HOLIDAY_LIFT = 1.2
_FLASH_SALES_A_MONTH = 3
_FLASH_HOURS = 2


@dataclass(frozen=True)
class Campaign:
    """A time in which traffic is lifted, and drawn to one category."""

    name: str
    medium: str
    start: int
    end: int
    lift: float
    """times the traffic that there would be"""
    category: int
    """number of the category, of as many as the shop has"""
    discount_percent: int


@lru_cache(maxsize=4)
def campaigns(world: World) -> tuple[Campaign, ...]:
    """The campaigns and flash sales of the world's twenty years, by their start."""
    found: list[Campaign] = []
    months = sorted({(day.year, day.month) for day in world.days(world.opened_on, world.closes_on)})
    for number, (year, month) in enumerate(months):
        picks = world.draws.uniform("campaigns of a month", np.arange(number * 16, number * 16 + 16, dtype=np.uint64))
        first = date(year, month, 1)
        found.append(
            _campaign(
                world, f"member_days_{year}{month:02d}", "email", first, 2 + int(picks[0] * 8), 4, 1.15, picks[1], 10
            )
        )
        for nth in range(_FLASH_SALES_A_MONTH):
            day = first + timedelta(days=int(picks[2 + 2 * nth] * 28))
            start = world.midnight(day) + 20 * HOUR
            name = f"flash_{day:%Y%m%d}_{nth}"
            category = int(picks[3 + 2 * nth] * 1000)
            found.append(Campaign(name, "push", start, start + _FLASH_HOURS * HOUR, 1.8, category, 20))
        if month == 11:
            found.append(_campaign(world, f"black_friday_{year}", "display", first, 20, 8, 1.4, picks[10], 15))
        if month in (1, 9):  # gifts before the lunar new year and the harvest feast
            found.append(_campaign(world, f"gifts_{year}{month:02d}", "search_ad", first, 10, 14, 1.15, picks[11], 5))
    inside = [c for c in found if c.start >= world.opened_at and c.end <= world.closes_at]
    return tuple(sorted(inside, key=lambda campaign: (campaign.start, campaign.name)))


def _campaign(
    world: World, name: str, medium: str, first: date, after: int, days: int, lift: float, pick: float, discount: int
) -> Campaign:
    start = first + timedelta(days=after)
    end = start + timedelta(days=days)
    return Campaign(name, medium, world.midnight(start), world.midnight(end), lift, int(pick * 1000), discount)


def campaigns_within(world: World, start: int, end: int) -> list[tuple[int, Campaign]]:
    """Campaigns, with their numbers, that run at some time within [start, end)."""
    starts, longest = _campaign_starts(world)
    first, last = np.searchsorted(starts, [start - longest, end])
    return [(n, c) for n, c in enumerate(campaigns(world)[first:last], int(first)) if c.end > start]


@lru_cache(maxsize=4)
def _campaign_starts(world: World) -> tuple[I64, int]:
    return np.array([c.start for c in campaigns(world)]), max(c.end - c.start for c in campaigns(world))


@lru_cache(maxsize=4)
def _day_factors(world: World) -> F64:
    """How much busier than the mean each day of the calendar is, before campaigns."""
    import holidays  # 0.1 s, which not every command of `crm` is to wait for

    days = world.days(world.opened_on, world.closes_on)
    feasts = holidays.country_holidays(world.country, years=range(days[0].year, days[-1].year + 1))
    weekday = _WEEKLY[[day.weekday() for day in days]]
    feast = np.where([day in feasts for day in days], _HOLIDAY_LIFT, 1.0)
    growth = (1.0 + world.growth_per_year) ** (np.arange(len(days)) / 365.0)
    return weekday * feast * growth


def hour_of_day(world: World, at: I64) -> F64:
    """Hours since the shop's midnight, of a day of 24 (a day of 23 or 25 is stretched)."""
    day = world.day_number(at)
    start = world.day_starts[day]
    return np.asarray((at - start) / (world.day_ends[day] - start) * 24.0)


def _unscaled(world: World, at: I64) -> F64:
    """Traffic at times within the calendar, in days' worth a day, not yet scaled to the settings."""
    hour = hour_of_day(world, at)
    share = np.interp(hour, np.arange(25), np.append(HOURLY, HOURLY[0])) * 24.0
    traffic = share * _day_factors(world)[world.day_number(at)]
    for _, campaign in campaigns_within(world, int(at[0]), int(at[-1]) + 1):
        traffic = np.where((at >= campaign.start) & (at < campaign.end), traffic * campaign.lift, traffic)
    return traffic


@lru_cache(maxsize=4)
def _scale(world: World) -> float:
    year = world.opened_at + np.arange(365 * 48, dtype=np.int64) * (HOUR // 2) + HOUR // 4
    return float(1.0 / _unscaled(world, year).mean())


def everyday_rate(world: World, first: int, end: int) -> F64:
    """Records of visits a second that the shop has anyway, of the seconds [first, end) since 1970."""
    rate = np.zeros(end - first)
    low, high = max(first, world.opened_at // SECOND), min(end, world.closes_at // SECOND)
    if low < high:
        days = world.day_number(np.array([low, high - 1]) * SECOND)
        for day in range(days[0], days[1] + 1):
            start = int(world.day_starts[day]) // SECOND
            of_day = _rate_of_day(world, day)[max(low - start, 0) : high - start]
            place = max(low, start) - first
            rate[place : place + len(of_day)] = of_day
    return rate


@lru_cache(maxsize=8)
def _rate_of_day(world: World, day: int) -> F64:
    return _unscaled(world, _seconds_of_day(world, day)) * (_scale(world) * world.events_per_day / 86_400)


@lru_cache(maxsize=8)
def hourly_share(world: World, day: int) -> F64:
    """The share of a day's traffic that comes in the hour of each second of it."""
    return HOURLY[hour_of_day(world, _seconds_of_day(world, day)).astype(np.int64)]


def _seconds_of_day(world: World, day: int) -> I64:
    return np.arange(world.day_starts[day], world.day_ends[day], SECOND)


@lru_cache(maxsize=4)
def traffic_until(world: World) -> F64:
    """Traffic from the opening to each midnight, in first years: 0 at the opening, 1 after 365 days."""
    by_day = _day_factors(world) / _day_factors(world)[:365].sum()
    return np.concatenate([[0.0], np.cumsum(by_day)])


def hour_quantile(share: F64) -> F64:
    """The hour of the day, 0 to 24, by which a share of a day's traffic has come."""
    return np.interp(share, np.concatenate([[0.0], np.cumsum(HOURLY)]), np.arange(25.0))


def day_position(world: World, day: int | I64, hour: F64) -> I64:
    """The time at an hour, 0 to 24, of days by their number."""
    start = world.day_starts[day]
    return start + (hour / 24.0 * (world.day_ends[day] - start)).astype(np.int64)
