"""Products: the category tree, names, prices, launches and ends, what is popular, and how much is in stock.

A product lives in weeks of the shop: at each week's start its price and its stock are set anew. The record of it
precedes the week by up to six hours, so that nothing is sold before the record that says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from data_generator.world.config import DAY, SECOND, World
from data_generator.world.draws import F64, I64, U64, hash_of


@dataclass(frozen=True)
class Category:
    """A leaf of the category tree: its path, what is sold there, and around which price, in won."""

    path: str
    noun: str
    price: int


_KOREAN = (
    Category("fashion/shoes", "러닝화", 89_000),
    Category("fashion/outer", "윈드브레이커", 129_000),
    Category("fashion/women/dress", "원피스", 69_000),
    Category("fashion/men/shirt", "옥스퍼드 셔츠", 49_000),
    Category("fashion/bags", "토트백", 99_000),
    Category("beauty/skincare", "수분 크림", 32_000),
    Category("beauty/makeup", "립 틴트", 18_000),
    Category("beauty/hair", "샴푸", 15_000),
    Category("home/kitchen", "주물 냄비", 74_000),
    Category("home/bedding", "이불 세트", 88_000),
    Category("home/lighting", "스탠드 조명", 56_000),
    Category("food/tea", "녹차 세트", 18_000),
    Category("food/fresh", "제철 과일 상자", 39_000),
    Category("food/snacks", "견과 선물세트", 27_000),
    Category("digital/audio", "무선 이어폰", 159_000),
    Category("digital/phone", "휴대폰 케이스", 22_000),
    Category("sports/camping", "접이식 의자", 45_000),
    Category("sports/fitness", "요가 매트", 29_000),
    Category("kids/toys", "나무 블록", 27_000),
    Category("kids/books", "그림책", 14_000),
)
_ENGLISH = tuple(
    Category(category.path, noun, category.price)
    for category, noun in zip(
        _KOREAN,
        (
            "running shoes", "windbreaker", "summer dress", "oxford shirt", "tote bag", "moisturiser", "lip tint",
            "shampoo", "cast iron pot", "duvet set", "desk lamp", "green tea set", "fruit box", "nut gift box",
            "wireless earphones", "phone case", "folding chair", "yoga mat", "wooden blocks", "picture book",
        ),
        strict=True,
    )
)  # fmt: skip
_LAUNCHED_AT_OPENING = 0.6
_WEEKS_OF_LAUNCHES = 156
_ENDS = 0.35
_ZIPF_EXPONENT = 0.85
_WON_A_MINOR_UNIT = 10  # roughly, of the other currencies: a cent, a yen
_DRIFT_WEEKS = 8
_SCARCE_SHARE = 0.08


def categories(world: World) -> tuple[Category, ...]:
    """The leaves of the category tree, named in the world's language."""
    return _KOREAN if world.locale.startswith("ko") else _ENGLISH


def category_of(world: World, product: I64) -> I64:
    """Numbers of the products' categories."""
    return product % len(categories(world))


@lru_cache(maxsize=4)
def search_paths(world: World) -> list[str]:
    """Where a search leads, by category."""
    return [f"/search?q={quote(category.noun)}" for category in categories(world)]


@lru_cache(maxsize=4)
def ids_pool(world: World) -> pa.Array:
    """Ids of all products, by number."""
    return world.draws.ids("prd_", "product", _all(world))


@lru_cache(maxsize=4)
def _names(world: World) -> pa.Array:
    """Names of all products: a line of goods that no company has, the noun, a model number."""
    from faker import Faker  # 0.1 s, which not every command of `crm` is to wait for

    fake = Faker(world.locale)
    fake.seed_instance(world.seed)
    lines = sorted({fake.color_name() for _ in range(400)})
    line = world.draws.integer("product line", _all(world), len(lines))
    kinds = categories(world)
    return pa.array(
        [f"{lines[n]} {kinds[p % len(kinds)].noun} {p:03d}" for p, n in enumerate(line.tolist())], pa.string()
    )


def _all(world: World) -> U64:
    return np.arange(world.products, dtype=np.uint64)


# --- weeks ------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _leads(world: World) -> I64:
    return (15 * 60 + world.draws.integer("lead of the record", _all(world), 6 * 3600 - 15 * 60)) * SECOND


@lru_cache(maxsize=4)
def _weeks_of_life(world: World) -> tuple[I64, I64]:
    """First week, and the week in which no more is sold, of each product."""
    products, draws = _all(world), world.draws
    later = 1 + draws.integer("launched in week", products, _WEEKS_OF_LAUNCHES)
    first = np.where(draws.uniform("launched at the opening", products) < _LAUNCHED_AT_OPENING, 0, later)
    life = 26 + draws.integer("weeks of life", products, 104)
    ends = draws.uniform("ends", products) < _ENDS
    first[0] = 0  # a shop has something to sell
    ends[0] = False
    return first, np.where(ends, first + life, len(world.week_starts) + 1)


def stock_week(world: World, product: I64, at: I64) -> I64:
    """Number of the week whose price and stock products have at times: the next one's from its record on."""
    first, end = _weeks_of_life(world)
    week = world.week_number(at + _leads(world)[product])
    return np.clip(week, first[product], end[product] - 1)


@lru_cache(maxsize=8)
def popularity(world: World, week: int) -> F64:
    """Cumulative weights of the products sold in a week, ordered by category: Zipf-like, by ranks that drift."""
    products, draws = _all(world), world.draws
    knot, within = divmod(week, _DRIFT_WEEKS)
    mood = [draws.uniform("mood", hash_of(draws, "mood of weeks", products, knot + n)) for n in (0, 1)]
    share = within / _DRIFT_WEEKS
    score = draws.uniform("popularity", products) + 0.5 * ((1 - share) * mood[0] + share * mood[1])
    first, end = _weeks_of_life(world)
    is_sold = (first <= week) & (week < end)
    rank = np.argsort(np.argsort(np.where(is_sold, -score, np.inf)))
    weight = np.where(is_sold, 1.0 / (rank + 2.0) ** _ZIPF_EXPONENT, 0.0)
    return np.concatenate([[0.0], np.cumsum(weight[_by_category(world)])])


@lru_cache(maxsize=4)
def _by_category(world: World) -> I64:
    return np.argsort(category_of(world, np.arange(world.products)), kind="stable")


@lru_cache(maxsize=4)
def _places(world: World) -> I64:
    return np.argsort(_by_category(world))


@lru_cache(maxsize=4)
def _category_edges(world: World) -> I64:
    sizes = np.bincount(category_of(world, np.arange(world.products)), minlength=len(categories(world)))
    return np.concatenate([[0], np.cumsum(sizes)])


def chosen_products(world: World, week: int, share: F64, category: I64) -> I64:
    """Products chosen in a week by uniform draws; within a category where that is not -1 and sells anything."""
    cumulative, edges = popularity(world, week), _category_edges(world)
    within = np.maximum(category, 0)
    low, high = cumulative[edges[within]], cumulative[edges[within + 1]]
    is_free = (category < 0) | (high <= low)
    low, high = np.where(is_free, 0.0, low), np.where(is_free, cumulative[-1], high)
    place = np.searchsorted(cumulative, low + share * (high - low), side="right") - 1
    return _by_category(world)[np.minimum(place, world.products - 1)]


def price_minor(world: World, product: I64, week: I64) -> I64:
    """List price of products in weeks, in minor units: one in seven is on offer."""
    draws = world.draws
    base = np.array([category.price for category in categories(world)])[category_of(world, product)]
    spread = 0.7 + 0.6 * draws.uniform("price spread", product.astype(np.uint64))
    offer = hash_of(draws, "weekly offer", product.astype(np.uint64), week.astype(np.uint64))
    factor = np.where(draws.uniform("is on offer", offer) < 1 / 7, 0.8, 1.0)
    minor = base if world.currency == "KRW" else base / _WON_A_MINOR_UNIT
    return (minor * spread * factor * 1.02 ** (week / 52) / 100).astype(np.int64) * 100


def stock_levels(world: World, product: I64, week: I64, units_a_week: float) -> I64:
    """Pieces of products in stock at the start of weeks: mostly plenty, sometimes fewer than will be asked for."""
    share = np.empty(len(product))
    for number in np.unique(week):
        cumulative = popularity(world, int(number))
        chosen = week == number
        place = _places(world)[product[chosen]]
        share[chosen] = (cumulative[place + 1] - cumulative[place]) / max(cumulative[-1], 1e-12)
    counter = hash_of(world.draws, "stock", product.astype(np.uint64), week.astype(np.uint64))
    luck = world.draws.uniform("stock of the week", counter)
    factor = np.where(luck < _SCARCE_SHARE, 0.4 + 6.0 * luck, 1.8 + 2.0 * luck)
    busier = (1.0 + world.growth_per_year) ** (week / 52)
    return np.ceil(2 + share * units_a_week * busier * factor + 3 * np.sqrt(share * units_a_week * busier)).astype(
        np.int64
    )


# --- records ----------------------------------------------------------------------------------


def products_within(world: World, start: int, end: int, units_a_week: float) -> pa.Table:
    """Product records within [start, end): launches, the start of each week, and ends."""
    first_week, end_week = _weeks_of_life(world)
    leads = _leads(world)
    weeks = np.arange(*np.searchsorted(world.week_starts, [start - DAY, end + DAY]), dtype=np.int64)
    product = np.broadcast_to(np.arange(world.products), (len(weeks), world.products)).ravel()
    week = np.repeat(weeks, world.products)
    at = world.week_starts[week] - leads[product] if len(weeks) else np.empty(0, np.int64)
    is_sold = (first_week[product] <= week) & (week < end_week[product])
    is_end = week == end_week[product]
    at = np.where(week == 0, world.opened_at, np.where(is_end, at + 2 * leads[product], at))
    chosen = (is_sold | is_end) & (at >= start) & (at < end)
    product, week, at, is_end = product[chosen], week[chosen], at[chosen], is_end[chosen]
    of_week = week - is_end  # the end leaves everything else as it was
    kinds = categories(world)
    restocked_at = np.where(
        is_end, np.where(of_week == 0, world.opened_at, world.week_starts[of_week] - leads[product]), at
    )
    return pa.table(
        {
            "schema_version": np.ones(len(product), dtype=np.int64),
            "product_id": ids_pool(world).take(pa.array(product)),
            "category_path": pa.array([kind.path for kind in kinds]).take(pa.array(category_of(world, product))),
            "name": _names(world).take(pa.array(product)),
            "price_minor": price_minor(world, product, of_week),
            "currency": pa.repeat(world.currency, len(product)),
            "restock_level": stock_levels(world, product, of_week, units_a_week),
            "restocked_at": restocked_at,
            "is_active": ~is_end,
            "occurred_at": at,
            "sequence": at,
        }
    )
