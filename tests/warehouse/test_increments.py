"""Every model built by daily increments holds what it holds when it is built from nothing, row for row.

Silver is made by the world and written here, so that what comes late, again, or goes is known; the publish, PostgreSQL
and dbt are the real ones.
"""

import shutil
from dataclasses import asdict
from datetime import timedelta

import polars as pl
import pytest
from conftest import ROOT
from own_warehouse import DAYS, days

from data_generator.configured import world_of
from data_generator.world.cohorts import Realised
from data_platform_core.contracts import CONTRACTS, GENERATED
from data_platform_core.settings import load_settings

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("count", [5, pytest.param(DAYS, marks=pytest.mark.drill)])
def test_daily_increments_are_a_full_refresh(warehouse, count):
    made = days(load_settings(), count)
    for number, day in enumerate(made):
        for entity, records in day.items():
            warehouse.append(entity, records)
            warehouse.append(entity, records[7::100])  # one in a hundred comes again: the same day, and the next
            warehouse.append(entity, made[number - 1][entity][11::100] if number else records[:0])
        if number == 0:  # who chooses entities in the form has orders, and no visit yet
            warehouse.publish("without-events", entities=[entity for entity in GENERATED if entity != "events"])
            warehouse.dbt("run")
        warehouse.publish(f"day-{number}")
        warehouse.dbt("run")
        warehouse.publish(f"day-{number}")  # a task that is run twice
    check_numbers(warehouse, {entity: pl.concat(day[entity] for day in made) for entity in GENERATED})
    gone = made[0]["orders"]["customer_id"][0]
    assert any(gone in row for row in warehouse.models()["warehouse.fct_sessions"])
    other = correct_masters(warehouse, made, gone)
    sold = "select (select sum(quantity) from {}) - (select sum(quantity) from {})"
    assert warehouse.row(sold.format("warehouse.fct_order_lines", "marts.product_performance")) == (0,)
    check_full_refresh(warehouse, "build")
    warehouse.publish("replayed", whole=True)
    warehouse.dbt("run")
    later = {name: f"{name} + interval '400' day" for name in ("occurred_at", "effective_at")}
    warehouse.silver("profiles").update(later, predicate=f"customer_id = '{other}'")
    warehouse.publish("moved")
    warehouse.dbt("run")
    known = "select count(*) > 0, count(customer_key) from warehouse.fct_orders where customer_id = %s"
    assert warehouse.row(known, other) == (True, 0)  # they ordered before they were anybody
    forget(warehouse, gone)
    warehouse.publish("forgotten")
    warehouse.dbt("run")
    by_increments = warehouse.models() | {"deleted_keys": warehouse.rows("lake.deleted_keys")}
    assert not [name for name, rows in by_increments.items() if any(gone in row for row in rows)]
    assert by_increments["deleted_keys"]
    check_full_refresh(warehouse, "run")


def check_full_refresh(warehouse, command):
    """Every model holds what it holds when it is built from nothing."""
    by_increments = warehouse.models()
    warehouse.dbt(command, "--full-refresh")
    from_nothing = warehouse.models()
    assert by_increments.keys() == from_nothing.keys() and len(by_increments) >= 18
    own = {f"warehouse.{contract.model}" for contract in CONTRACTS.values() if not contract.is_generated}
    for name, rows in by_increments.items():
        assert rows == from_nothing[name], f"{name}: {len(rows)} rows by increments, {len(from_nothing[name])} at once"
        assert rows or name in own, name


def correct_masters(warehouse, made, other):
    """Another segment for a customer who ordered; no more of the version by which another one ordered; a version of a
    third by a clock that was ahead; nothing more of a fourth, nor of a product; and an event in another session.
    Published, and built; returns a customer who ordered and was left as they were."""
    buyers = pl.concat(day["orders"] for day in made).filter(pl.col("customer_id") != other)["customer_id"]
    versions = pl.concat(day["profiles"] for day in made).filter(pl.col("customer_id").is_in(buyers.implode()))
    one = versions["customer_id"][0]
    changed = warehouse.silver("profiles").update({"segment": "'premium'"}, predicate=f"customer_id = '{one}'")
    assert changed["num_updated_rows"] > 0
    several = versions.filter((pl.len().over("customer_id") > 1) & (pl.col("customer_id") != one))
    last = several.sort("sequence").group_by("customer_id").last().row(0, named=True)
    warehouse.delete("profiles", f"customer_id = '{last['customer_id']}' and sequence = {last['sequence']}")
    others = versions.filter(~pl.col("customer_id").is_in([one, last["customer_id"]]))["customer_id"].unique().sort()
    third, fourth, fifth = others[:3]
    first = versions.filter(pl.col("customer_id") == third).sort("sequence").head(1)
    begins = first["occurred_at"][0] + timedelta(hours=1)
    warehouse.append("profiles", first.with_columns(
        pl.col("sequence") + 1_000, pl.col("occurred_at") + pl.duration(days=4_000), effective_at=pl.lit(begins),
        segment=pl.lit("premium"),
    ))  # fmt: skip
    warehouse.delete("profiles", f"customer_id = '{fourth}'")
    sold = made[0]["orders"]["lines"][0][0]["product_id"]
    warehouse.delete("products", f"product_id = '{sold}'")
    alone, company = visits_of_one_and_of_several(made)
    warehouse.silver("events").update({"session_id": f"'{company}'"}, predicate=f"session_id = '{alone}'")
    known = "select count(*), count({key}) from warehouse.{fact} where {key_of} = %s"
    facts = [
        (known.format(key=f"{owner}_key", fact=fact, key_of=f"{owner}_id"), one)
        for owner, fact, one in (
            ("customer", "fct_orders", fourth), ("customer", "fct_events", fourth), ("product", "fct_order_lines", sold),
        )
    ]  # fmt: skip
    assert all(warehouse.row(*fact)[1] > 0 for fact in facts)
    warehouse.publish("corrected")
    warehouse.dbt("run")
    assert all(warehouse.row(*fact)[1] == 0 < warehouse.row(*fact)[0] for fact in facts)
    query = "select segment from warehouse.dim_customer where customer_id = %s and valid_from = %s"
    assert warehouse.row(query, third, begins) == ("premium",)
    assert warehouse.row("select count(*) from warehouse.fct_sessions where session_id = %s", alone) == (0,)
    return str(fifth)


def visits_of_one_and_of_several(made):
    """A session that has one event, and one that has more."""
    counts = pl.concat(day["events"] for day in made).group_by("session_id").len().sort("len", "session_id")
    return counts["session_id"][0], counts["session_id"][-1]


def check_numbers(warehouse, made):
    """The marts' sums are those of the records made, counted here without any SQL of dbt's, and keep the world's word."""
    day = pl.col("at").dt.convert_time_zone(load_settings().shop_time_zone).dt.date().alias("day")
    orders = made["orders"].sort("sequence").group_by("order_id").last()
    returned = orders.filter(pl.col("status") != "paid")["total_minor"].sum()
    gross = orders["total_minor"].sum()
    sums = "sum(order_count), sum(gross_revenue_minor), sum(returned_minor)"
    assert warehouse.row(f"select {sums} from marts.revenue_by_segment_and_day") == (len(orders), gross, returned)
    sums = "count(*), sum(order_count), sum(gross_revenue_minor), sum(net_revenue_minor)"
    customers = made["profiles"]["customer_id"].n_unique()
    assert warehouse.row(f"select {sums} from marts.customer_360") == (customers, len(orders), gross, gross - returned)
    sums = "sum(first_touch_revenue_minor), sum(last_touch_revenue_minor), round(sum(linear_revenue_minor))"
    assert warehouse.row(f"select {sums} from marts.campaign_attribution") == (gross - returned,) * 3
    pieces = made["orders"].group_by("order_id").first()["lines"].explode().struct.field("quantity").sum()
    assert warehouse.row("select sum(quantity) from marts.product_performance") == (pieces,)
    visits = (
        made["events"]
        .group_by("session_id")
        .agg(
            pl.max("customer_id"),
            pl.min("occurred_at").alias("at"),
            (pl.col("event_type") == "purchase").any().alias("has"),
        )
    )
    sums = "sum(session_count), sum(purchase_count)"
    assert warehouse.row(f"select {sums} from marts.funnel_by_channel_and_device") == (len(visits), visits["has"].sum())
    came = visits.select("customer_id", day).drop_nulls().unique()
    born = (
        made["profiles"].select("customer_id", pl.col("signed_up_at").alias("at")).unique().select("customer_id", day)
    )
    query = "select holiday_name from warehouse.dim_date where is_holiday and date_day in ('2026-10-09', '2026-10-08')"
    assert warehouse.row(query) == ("Hangul Day",)
    first, last = came["day"].min(), came["day"].max()
    promised = asdict(world_of(load_settings()).retention)
    for age in (1, 7) if (last - first).days >= 7 else (1,):
        due = born.filter((pl.col("day") >= first) & (pl.col("day") <= last - timedelta(days=age)))
        again = due.with_columns(pl.col("day") + timedelta(days=age)).join(came, ["customer_id", "day"], "semi")
        query = "select sum(customer_count), sum(returned_count) from marts.cohort_retention where day_number = %s"
        assert warehouse.row(query, age) == (len(due), len(again)) and len(due), age
        assert Realised(age, len(due), len(again), promised[f"d{age}"]).holds, age


def test_a_model_is_never_further_than_what_it_is_built_on(warehouse):
    """Built alone, before the model it is built on knows of an entity, or beside a second order of a status's id."""
    first, second, *_ = days(load_settings())
    for entity, records in first.items():
        warehouse.append(entity, records)
    warehouse.publish("without-events", entities=[entity for entity in GENERATED if entity != "events"])
    warehouse.dbt("run")
    warehouse.publish("events", entities=["events"])
    warehouse.dbt("run", "--select", "fct_sessions")
    id_of_another = pl.lit(first["orders"]["order_event_id"][0])
    warehouse.append("orders", second["orders"].head(1).with_columns(order_event_id=id_of_another))
    warehouse.publish("a-status-of-two-orders")
    warehouse.dbt("run")
    by_increments = warehouse.models()
    assert len(by_increments["warehouse.fct_order_status"]) == len(first["orders"]) + 1
    assert by_increments["warehouse.fct_sessions"]
    warehouse.dbt("run", "--full-refresh")
    assert by_increments == warehouse.models()


def test_increments_by_event_time_are_noticed(warehouse, tmp_path):
    """What the test before would say of models that follow event time, as is often done: each loses what came late."""
    project = shutil.copytree(ROOT / "dbt", tmp_path / "dbt")
    increments = project / "macros" / "increments.sql"
    by_batch = "{{ alias }}.published_batch > {{ last_batch(entity) }}"
    by_event_time = (
        "{% if alias == 'gone' %}" + by_batch + "{% else %}"
        "{{ alias }}.{{ 'valid_from' if alias == 'versions' else 'occurred_at' }} > (select max(seen.occurred_at)"
        " from lake.{{ entity }} as seen where seen.published_batch <= {{ last_batch(entity) }}){% endif %}"
    )
    assert by_batch in increments.read_text()
    increments.write_text(increments.read_text().replace(by_batch, by_event_time))
    for number, day in enumerate(days(load_settings())[:3]):
        for entity, records in day.items():
            warehouse.append(entity, records)
        warehouse.publish(f"day-{number}")
        warehouse.dbt("run", "--exclude", "marts", project=project)
    by_increments = warehouse.models()
    warehouse.dbt("run", "--exclude", "marts", "--full-refresh")
    whole = warehouse.models()
    files = (project / "models" / "warehouse").glob("*.sql")
    incremental = {f"warehouse.{file.stem}" for file in files if "materialized='incremental'" in file.read_text()}
    assert len(incremental) == 7
    assert {name for name in incremental if by_increments[name] != whole[name]} == incremental


def forget(warehouse, customer_id):
    for entity in ("events", "orders", "profiles"):
        assert "customer_id" in CONTRACTS[entity].model_fields
        warehouse.delete(entity, f"customer_id = '{customer_id}'")
