"""The laws of the world hold: contracts of retention and conversion, references, stock, money, the plan of a load."""

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_generator.encode import lines_of
from data_generator.world.cohorts import COHORTS, cohorts, retention
from data_generator.world.config import DAY, SECOND, Funnel, Retention, World
from data_generator.world.customers import _settled, customer_ids
from data_generator.world.load import EVERYDAY, Change, Profile
from data_generator.world.records import Shop
from data_generator.world.rhythm import campaigns, everyday_rate
from data_generator.world.visits import check_room, response
from data_platform_core.contracts import CONTRACTS
from data_platform_core.errors import UsageError

DAYS = 100
NINETY_NINE = 2.576  # the normal quantile of a two-sided 99% interval


@pytest.fixture(scope="module")
def busy(world):
    return replace(world, seed=11, opened_on=date(2025, 11, 1), customers=260_000, products=400, events_per_day=120_000)


@pytest.fixture(scope="module")
def lived(busy):
    """What a hundred days of a busy shop hold: visits by customer and day, sessions, orders, profiles, products."""
    shop = Shop(busy)
    visits, sessions, orders = [], [], []
    for day in range(DAYS):
        start, end = (int(busy.day_starts[day + n]) for n in (0, 1))
        events = shop.records("events", start, end)
        orders.append(shop.records("orders", start, end))
        known = events.filter(pl.col("customer_id").is_not_null())
        visits.append(known.select("customer_id").unique().with_columns(day=pl.lit(day)))
        sessions.append(
            events.group_by("session_id").agg(
                pl.col("customer_id").first(),
                *((pl.col("event_type") == kind).any().alias(kind) for kind in STAGES),
                records=pl.len(),
                began=pl.col("occurred_at").min(),
            )
        )
    until = int(busy.day_starts[DAYS])
    return {
        "visits": pl.concat(visits),
        "sessions": pl.concat(sessions),
        "orders": pl.concat(orders),
        "profiles": shop.records("profiles", busy.opened_at, until),
        "products": shop.records("products", busy.opened_at, until),
    }


STAGES = ("click", "add_to_cart", "checkout", "purchase", "remove_from_cart")


def within(count, of, share):
    """Whether a count is within the binomial 99% interval of its share."""
    margin = NINETY_NINE * np.sqrt(share * (1 - share) / of)
    assert abs(count / of - share) <= margin, f"{count / of:.4f} of {of:,} is not {share} ± {margin:.4f}"


@pytest.mark.parametrize(("age", "point"), [(1, "d1"), (7, "d7"), (30, "d30")])
def test_the_retention_contract_holds(busy, lived, age, point):
    first = lived["profiles"].sort("sequence").group_by("customer_id").first()
    new = first.filter(pl.col("signed_up_at") == pl.col("occurred_at"))
    born = busy.day_number(new["signed_up_at"].to_physical().to_numpy())
    due = new.select("customer_id", day=pl.Series(born + age).cast(pl.Int32)).filter(pl.col("day") < DAYS)
    back = due.join(lived["visits"], on=["customer_id", "day"], how="semi")
    assert len(due) >= 30_000
    within(len(back), len(due), getattr(busy.retention, point))


def test_the_retention_contract_holds_over_fifty_thousand_of_each_age(busy):
    for each in retention(busy, 200):
        assert each.customers >= 50_000 and each.holds, each


def test_what_is_told_of_retention_is_what_events_show(busy, lived):
    told = {each.age: each for each in retention(busy, DAYS - 1)}
    first = lived["profiles"].sort("sequence").group_by("customer_id").first()
    new = first.filter(pl.col("signed_up_at") == pl.col("occurred_at"))
    born = busy.day_number(new["signed_up_at"].to_physical().to_numpy())
    for age in (1, 7, 30):
        due = new.select("customer_id", day=pl.Series(born + age).cast(pl.Int32)).filter(pl.col("day") < DAYS)
        back = due.join(lived["visits"], on=["customer_id", "day"], how="semi")
        assert told[age].customers == len(due) and told[age].holds
        assert told[age].came == pytest.approx(len(back), rel=0.01)  # some stay in the shop past midnight


def test_cohorts_are_what_visits_show(busy, lived):
    day = DAYS - 1
    found = cohorts(busy, day)
    of = pl.DataFrame({"customer_id": customer_ids(busy, np.arange(len(found))).to_pylist(), "cohort": found})
    days = (
        lived["visits"]
        .group_by("customer_id")
        .agg(came=(pl.col("day") > day - 30).any(), had_come=pl.col("day").is_between(day - 59, day - 30).any())
    )
    seen = of.join(days, on="customer_id", how="left").with_columns(pl.col("came", "had_come").fill_null(False))
    counts = seen.group_by("cohort").agg(pl.len(), pl.col("came").mean(), pl.col("had_come").mean()).sort("cohort")
    new, active, returning, churned = counts.rows()
    assert len(counts) == len(COHORTS) and min(counts["len"]) > 100
    assert active[2] == 1.0 and returning[2] == 1.0 and churned[2] < 0.001  # some stay in the shop past midnight
    assert returning[3] < 0.01 and active[3] > 0.5  # the others signed up in the period before
    signed_up = lived["profiles"].group_by("customer_id").agg(pl.col("signed_up_at").max())
    until = pl.lit(int(busy.day_ends[day] - 30 * DAY)).cast(pl.Datetime("us", "UTC"))
    young = of.join(signed_up, on="customer_id").filter(pl.col("signed_up_at") >= until)
    assert set(young["cohort"]) == {0} and len(young) == new[1]


def test_the_conversion_contract_holds(busy, lived):
    """By each customer's first session, since sessions of one customer need not be independent of each other."""
    sessions = lived["sessions"].sort("began", "session_id").unique("session_id", keep="first", maintain_order=True)
    known = sessions.filter(pl.col("customer_id").is_not_null())
    known = known.unique("customer_id", keep="first", maintain_order=True)
    viewed, carted, checked = (known.filter(pl.col(kind)) for kind in ("click", "add_to_cart", "checkout"))
    within(len(viewed), len(known), busy.funnel.view)
    within(len(carted), len(viewed), busy.funnel.cart)
    within(len(checked), len(carted), busy.funnel.checkout)
    sold_out = checked.filter(pl.col("remove_from_cart") & ~pl.col("purchase"))  # they wanted to buy
    wants = len(checked.filter(pl.col("purchase"))) + len(sold_out)
    within(wants, len(checked), busy.funnel.purchase)
    assert 0 < len(sold_out) < 0.1 * wants


def test_who_buys_is_known_and_had_signed_up(lived):
    signed_up = lived["profiles"].group_by("customer_id").agg(pl.col("signed_up_at").min(), pl.col("occurred_at").min())
    orders = lived["orders"].join(signed_up, on="customer_id", how="left", suffix="_of_profile")
    assert orders.filter(pl.col("occurred_at_of_profile").is_null()).is_empty()
    assert orders.filter(pl.col("ordered_at") < pl.col("signed_up_at")).is_empty()
    assert orders.filter(pl.col("ordered_at") < pl.col("occurred_at_of_profile")).is_empty()
    bought = lived["sessions"].filter("purchase")
    assert bought["customer_id"].null_count() == 0


def test_orders_are_paid_once_and_then_cancelled_or_refunded_at_most_once(lived):
    orders = lived["orders"]
    paid = orders.filter(pl.col("status") == "paid")
    assert paid["order_id"].is_duplicated().sum() == 0
    later = orders.filter(pl.col("status") != "paid")
    assert later["order_id"].is_duplicated().sum() == 0
    assert later.join(paid, on="order_id", how="anti").is_empty()
    assert later.join(paid, on=["order_id", "customer_id", "total_minor", "ordered_at"], how="anti").is_empty()
    delay = later.select("status", pl.col("occurred_at") - pl.col("ordered_at")).group_by("status").median()
    hours = dict(zip(delay["status"], (d.total_seconds() / 3600 for d in delay["occurred_at"]), strict=True))
    assert hours["cancelled"] < 6 and 72 < hours["refunded"] < 300


def test_stock_never_falls_below_zero_and_sometimes_runs_out(lived):
    lines = lived["orders"].filter(pl.col("status") == "paid").explode("lines").unnest("lines").sort("ordered_at")
    refills = lived["products"].filter("is_active").select("product_id", "restocked_at", "restock_level")
    sold = (
        lines.join_asof(
            refills.sort("restocked_at"),
            left_on="ordered_at",
            right_on="restocked_at",
            by="product_id",
            check_sortedness=False,
        )
        .group_by("product_id", "restocked_at", "restock_level")
        .agg(pl.col("quantity").sum())
    )
    assert sold["restock_level"].null_count() == 0, "something was sold before its record"
    assert sold.filter(pl.col("quantity") > pl.col("restock_level")).is_empty()
    ran_out = sold.filter(pl.col("quantity") >= 0.97 * pl.col("restock_level"))
    assert 0.005 < len(ran_out) / len(sold) < 0.15


def test_a_product_is_sold_only_between_its_launch_and_its_end(world):
    shop = Shop(world)
    start, end = world.opened_at + 400 * DAY, world.opened_at + 430 * DAY
    products = shop.records("products", world.opened_at, end).sort("sequence")
    launched = products.group_by("product_id").agg(pl.col("occurred_at").min())
    ended = products.filter(~pl.col("is_active")).select("product_id", ended_at="occurred_at")
    assert launched["occurred_at"].n_unique() > 3 and len(ended) > 0
    clicks = shop.records("events", start, end).filter(pl.col("product_id").is_not_null())
    seen = clicks.join(launched, on="product_id", how="left", suffix="_launch").join(ended, on="product_id", how="left")
    assert seen.filter(pl.col("occurred_at_launch").is_null()).is_empty()
    assert seen.filter(pl.col("occurred_at") < pl.col("occurred_at_launch")).is_empty()
    assert seen.filter(pl.col("occurred_at") > pl.col("ended_at")).is_empty()


def test_popularity_is_zipf_like_and_drifts(lived):
    paid = lived["orders"].filter(pl.col("status") == "paid").explode("lines").unnest("lines")
    counts = paid.group_by("product_id").len().sort("len", descending=True)["len"].to_numpy()
    rank = np.arange(1, 101)
    slope = np.polyfit(np.log(rank + 1), np.log(counts[:100]), 1)[0]
    assert -1.1 < slope < -0.5
    early, late = (
        paid.filter(condition).group_by("product_id").len().top_k(20, by="len")["product_id"]
        for condition in (
            pl.col("ordered_at") < pl.lit(paid["ordered_at"].min()) + pl.duration(days=20),
            pl.col("ordered_at") > pl.lit(paid["ordered_at"].max()) - pl.duration(days=20),
        )
    )
    assert 3 <= len(set(early) & set(late)) <= 18


def test_grades_follow_what_customers_spend(busy, lived):
    month = int(busy.months[DAYS - 5])
    grade, _ = _settled(busy, month)
    of = pl.DataFrame({"customer_id": customer_ids(busy, np.arange(len(grade))).to_pylist(), "grade": grade})
    spent = lived["orders"].filter(pl.col("status") == "paid").group_by("customer_id").agg(pl.col("total_minor").sum())
    mean = (
        of.join(spent, on="customer_id", how="left")
        .fill_null(0)
        .group_by("grade")
        .agg(pl.col("total_minor").mean())
        .sort("grade")
    )
    assert mean["grade"].to_list() == [0, 1, 2, 3]
    assert (mean["total_minor"].diff().drop_nulls() > 0).all()


def test_a_day_has_its_rhythm_and_a_year_its_growth_and_its_mean(world):
    year = np.concatenate([everyday_rate(world, at, at + 86_400) for at in world.day_starts[:365] // SECOND])
    assert year.sum() == pytest.approx(365 * world.events_per_day, rel=0.002)
    by_hour = year.reshape(365, 24, 3600).mean(axis=(0, 2))
    assert by_hour.argmin() in (3, 4) and by_hour.argmax() in (20, 21)
    assert year[-90 * 86_400 :].sum() > 1.1 * year[: 90 * 86_400].sum()
    feast = world.day_number(np.array([world.midnight(date(2026, 2, 17))]))[0]  # the lunar new year
    days = year.reshape(365, -1).sum(axis=1)
    assert days[feast] > 1.1 * days[feast + 7]
    weekday = np.array([day.weekday() for day in world.days(world.opened_on, world.closes_on)[:365]])
    assert days[weekday == 6].mean() > 1.08 * days[weekday == 4].mean()  # Sundays and Fridays


def test_prices_change_with_time_and_customers_have_several_devices(world, lived):
    prices = lived["products"].group_by("product_id").agg(pl.col("price_minor").n_unique())
    assert (prices["price_minor"] > 1).mean() > 0.9
    start = world.opened_at + 100 * DAY
    events = Shop(world).records("events", start, start + 14 * DAY).filter(pl.col("customer_id").is_not_null())
    devices = events.group_by("customer_id").agg(pl.col("device").n_unique(), pl.col("visitor_id").n_unique())
    assert (devices["device"] > 1).any() and devices["device"].equals(devices["visitor_id"])


def test_a_flash_sale_draws_visitors_to_its_category(busy):
    sale = next(c for c in campaigns(busy) if c.medium == "push" and c.start > busy.opened_at + 30 * DAY)
    during = Shop(busy).records("events", sale.start, sale.end)
    before = Shop(busy).records("events", sale.start - 7 * DAY, sale.end - 7 * DAY)
    assert len(during) > 1.4 * len(before)
    touched = during.filter(pl.col("utm_campaign") == sale.name)
    assert touched["session_id"].n_unique() > 100
    categories = touched.filter(pl.col("page_path").str.starts_with("/category/"))["page_path"].value_counts()
    assert categories["count"].max() > 0.9 * categories["count"].sum()


def test_no_text_is_taken_from_a_person(lived):
    names = lived["products"]["name"].unique()
    assert names.str.contains("[가-힣]").all()
    assert "name" not in lived["profiles"].columns


def test_made_events_reach_the_mean_of_the_settings(busy, lived):
    expected = everyday_rate(busy, busy.opened_at // SECOND, int(busy.day_starts[DAYS]) // SECOND).sum()
    made = lived["sessions"]["records"].sum() + len(lived["orders"].filter(pl.col("status") == "paid"))
    assert made == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("tps", [50.0, 3000.0])
def test_a_spike_keeps_its_plan(world, tps):
    first = world.opened_at // SECOND + 200 * 86_400
    plan = Profile().grown(Change(first, 50.0), Change(first + 60, tps, ramp=30, from_tps=50.0))
    shop, counts = Shop(world, plan), []
    for at in range(first, first + 240):
        window = at * SECOND, (at + 1) * SECOND
        counts.append(shop.records("events", *window).height + shop.records("orders", *window).height)
    planned = plan.rate(world, first, first + 240)
    assert sum(counts) == pytest.approx(planned.sum(), rel=0.03)
    if tps >= 3000:
        peak = np.array(counts[90:])
        tens = np.convolve(peak, np.ones(10), "valid") / (10 * tps)
        assert np.abs(tens - 1).max() < 0.02
        assert (np.abs(peak / tps - 1) < 0.05).mean() >= 0.95


def test_a_run_begun_as_another_ends_begins_with_an_empty_shop(world):
    first = world.opened_at // SECOND + 200 * 86_400
    plan = Profile().grown(
        Change(first - 300, 50.0), Change(first, None, empties=True), Change(first, 100.0), Change(first + 60, 70.0)
    )
    shop = Shop(world, plan)
    made = [shop.records("events", at * SECOND, (at + 10) * SECOND).height for at in (first, first + 10, first + 70)]
    assert made == pytest.approx([1000, 1000, 700], rel=0.12)


def test_a_load_says_the_same_whatever_came_before(world):
    first = world.opened_at // SECOND + 200 * 86_400
    changes = [Change(first + 100 * n, [50.0, None, 80.0][n % 3], ramp=20 * (n % 2)) for n in range(30)]
    whole = Profile(tuple(changes)).rate(world, first, first + 3000)
    for at in range(first, first + 3000, 170):
        part = Profile(tuple(changes)).rate(world, at, at + 170)[: first + 3000 - at]
        assert part.tolist() == whole[at - first : at - first + 170].tolist()
        overrides = Profile(tuple(changes)).is_override(at, at + 5)
        assert overrides.tolist() == [changes[(second - first) // 100].tps is not None for second in range(at, at + 5)]


def test_a_load_without_room_for_its_customers_is_refused(world):
    check_room(world)
    with pytest.raises(UsageError, match=r"come .* times a day by their retention"):
        check_room(replace(world, customers=50 * world.customers))


def test_a_fall_of_the_load_lets_visitors_finish(world):
    first = world.opened_at // SECOND + 200 * 86_400
    plan = Profile().grown(Change(first, 500.0), Change(first + 60, 5.0), Change(first + 240, None, empties=True))
    events = Shop(world, plan).records("events", first * SECOND, (first + 260) * SECOND)
    second = events["occurred_at"].to_physical() // SECOND - first
    by_second = np.bincount(second.to_numpy(), minlength=260)
    assert 100 < by_second[65:75].mean() < 500
    assert by_second[200:240].mean() < 40
    assert by_second[240:260].mean() < 3, "somebody is left in a shop that was emptied"


def test_response_of_sessions_brings_the_rate(world):
    found = response(world)
    assert found.records == pytest.approx(4.1, abs=0.5)
    assert abs(found.surplus[-60:]).max() < 1e-3
    assert EVERYDAY.rate(world, world.closes_at // SECOND, world.closes_at // SECOND + 5).sum() == 0


def test_a_world_of_another_zone_language_and_currency_holds():
    world = World(3, date(2026, 1, 1), 500, 25, 2000, "Europe/Berlin", "EUR", country="DE", locale="de_DE")
    shop = Shop(world)
    summer_time = world.midnight(date(2026, 3, 29))  # a day of 23 hours
    events = shop.records("events", summer_time, world.midnight(date(2026, 3, 30)))
    assert 800 < len(events) < 4000
    assert set(shop.records("products", world.opened_at, world.opened_at + DAY)["currency"]) == {"EUR"}


shares = st.floats(0.01, 1)
worlds = st.builds(
    World,
    seed=st.integers(0, 2**63 - 1),
    opened_on=st.dates(date(2000, 1, 1), date(2040, 1, 1)),
    customers=st.integers(1, 2000),
    products=st.integers(1, 60),
    events_per_day=st.integers(1, 3000),
    time_zone=st.sampled_from(["Asia/Seoul", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    currency=st.just("KRW"),
    locale=st.sampled_from(["ko_KR", "en_GB"]),
    growth_per_year=st.floats(-0.9, 2),
    known_share=shares,
    retention=st.lists(shares, min_size=3, max_size=3, unique=True).map(
        lambda found: Retention(*sorted(found, reverse=True))
    ),
    funnel=st.builds(Funnel, view=shares, cart=shares, checkout=shares, purchase=shares),
)


@settings(max_examples=10, deadline=None)
@given(world=worlds, day=st.integers(0, 500))
def test_in_any_world_records_keep_their_contracts_and_refer_to_what_there_is(world, day):
    shop, start, end = Shop(world), int(world.day_starts[day]), int(world.day_ends[day])
    profiles, products = (shop.records(entity, world.opened_at, end) for entity in ("profiles", "products"))
    events, orders = (shop.records(entity, start, end) for entity in ("events", "orders"))
    for entity, records in {"events": events, "orders": orders, "products": products, "profiles": profiles}.items():
        for line in lines_of(entity, records.sample(min(len(records), 50), seed=1)):
            CONTRACTS[entity].model_validate_json(line)
    lines = orders.explode("lines").unnest("lines")
    assert set(events["customer_id"].drop_nulls()) | set(orders["customer_id"]) <= set(profiles["customer_id"])
    assert set(events["product_id"].drop_nulls()) | set(lines["product_id"]) <= set(products["product_id"])
    paid = orders.filter(pl.col("status") == "paid")
    bought = events.filter(pl.col("event_type") == "purchase")
    assert bought.select("order_id", "customer_id", "occurred_at").equals(
        paid.select("order_id", "customer_id", "occurred_at")
    )
    gross = lines.group_by("order_event_id").agg((pl.col("quantity") * pl.col("unit_price_minor")).sum().alias("gross"))
    sums = orders.join(gross, on="order_event_id").filter(
        pl.col("gross") - pl.col("discount_minor") == pl.col("total_minor")
    )
    assert len(sums) == len(orders)


def test_a_load_is_not_changed_by_the_size_of_the_world(world):
    first = world.opened_at // SECOND + 100 * 86_400
    plan = Profile().grown(Change(first, 100.0))
    for customers in (50, 20_000):
        shop = Shop(replace(world, customers=customers), plan)
        made = shop.records("events", first * SECOND, (first + 120) * SECOND).height
        assert made == pytest.approx(12_000, rel=0.06)
