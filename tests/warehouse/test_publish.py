"""The publish brings PostgreSQL to what silver has, once, whatever breaks, repeats or runs beside it."""

import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import psycopg
import pytest
from conftest import wait_for
from own_warehouse import days
from psycopg.conninfo import make_conninfo

from data_platform_core.contracts import ENTITIES
from data_platform_core.errors import ComponentFailed, CrmError, GateFailed, UsageError
from data_platform_core.quality import gate
from data_platform_core.quality.docs import pages
from data_platform_core.settings import load_settings
from data_platform_core.warehouse import connect, prepare_warehouse
from data_platform_core.windows import fix_window
from home_server.environment import admin_dsn
from spark_jobs.batch import publish as module

pytestmark = pytest.mark.stack


@pytest.fixture
def published(warehouse):
    """A warehouse with a first day published, and the records of the second."""
    first, second, *_ = days(load_settings())
    for entity, records in first.items():
        warehouse.append(entity, records)
    warehouse.publish("first")
    return warehouse, second


def execute(statement):
    with connect(load_settings()) as connection:
        connection.execute(statement)


def as_admin(statement):
    with psycopg.connect(admin_dsn(load_settings()), dbname="warehouse") as connection:
        connection.execute(statement)


def test_what_came_changed_or_went_arrives(published):
    warehouse, second = published
    assert all(map(warehouse.is_silver, ENTITIES))
    warehouse.append("events", second["events"])
    warehouse.silver("profiles").update(updates={"grade": "'vip'"}, predicate="birth_year > 1990")
    gone = second["events"]["event_id"][0]
    warehouse.delete("events", f"event_id = '{gone}'")
    warehouse.delete("orders", "true")
    assert warehouse.publish("second") > len(second["events"])
    assert all(map(warehouse.is_silver, ENTITIES))
    assert warehouse.publish("second") == warehouse.publish("third") == 0
    assert warehouse.row("select count(*) from lake.deleted_keys where record_key[1] = %s", gone) == (0,)  # never there
    assert warehouse.row("select count(*) > 0 from lake.deleted_keys where entity = 'orders'") == (True,)


def test_the_planner_knows_what_was_published_just_now(published):
    """A gate joins what is new with itself: planned for one row of half a million, it took half an hour."""
    warehouse, second = published
    as_admin("analyze lake.events")  # as autovacuum does, when it comes round
    (mark,) = warehouse.row("select published_batch from ops.publish_marks where entity = 'events'")
    warehouse.append("events", second["events"])
    warehouse.publish("second")
    (plan,) = warehouse.row(f"explain (format json) select * from lake.events where published_batch > {mark}")
    came = len(second["events"])
    assert came / 2 < plan[0]["Plan"]["Plan Rows"] < came * 2


def test_what_came_after_the_whole_is_found_by_an_index(published):
    warehouse, second = published
    (mark,) = warehouse.row("select published_batch from ops.publish_marks where entity = 'events'")
    warehouse.append("events", second["events"])
    warehouse.publish("second")
    with connect(load_settings()) as connection:
        connection.execute("set enable_seqscan = off")  # of tables as small as these a scan is right
        plan = connection.execute(f"explain select * from lake.events where published_batch > {mark}").fetchall()
    assert any("published_batch_idx" in line for (line,) in plan)


@pytest.mark.parametrize("whole", [False, True])
def test_a_version_dated_ahead_keeps_the_time_from_which_it_holds(published, whole):
    warehouse, second = published
    record = second["profiles"].head(1)
    ahead = record.with_columns(pl.col("occurred_at") + pl.duration(days=400), effective_at="occurred_at")
    warehouse.append("profiles", ahead)
    assert warehouse.publish("second", whole=whole, entities=["profiles"]) > 0
    query = "select effective_at, occurred_at from lake.profiles where customer_id = %s and sequence = %s"
    held = warehouse.row(query, ahead["customer_id"][0], ahead["sequence"][0])
    assert held == (record["occurred_at"][0], ahead["occurred_at"][0])


def test_the_gate_goes_by_the_time_from_which_a_version_holds(crm, published):
    published_gate = ("gate", "--layer", "published", "--whole", "--run")
    execute("delete from lake.events")  # of which one has an order that is late
    execute("update lake.products set occurred_at = occurred_at + interval '4000 days'")
    execute("update lake.profiles set occurred_at = occurred_at + interval '4000 days'")
    assert "is open" in crm(*published_gate, "dated-ahead").stdout
    execute("update lake.products set effective_at = occurred_at")
    assert "order_of_products on lake.orders" in crm(*published_gate, "without-a-product", fails=True).stderr
    execute("update lake.profiles set effective_at = occurred_at + interval '1 hour'")
    closed = crm(*published_gate, "later-than-it-says", fails=True).stderr
    assert "expect_column_pair_values_a_to_be_greater_than_b on lake.profiles" in closed


def test_a_gate_of_all_lets_nothing_through(crm, published):
    """Of all rows 2% are many more than of those that are new, which the next hourly gate is to look at."""
    warehouse, _ = published
    assert "is open" in crm("gate", "--whole", "--run", "nightly").stdout
    assert warehouse.row("select count(*) from ops.gate_marks") == (0,)
    assert "is open" in crm("gate", "--run", "hourly").stdout
    assert warehouse.row("select count(*) from ops.gate_marks") == (len(ENTITIES),)


def test_the_page_of_a_gate_links_to_the_rows_that_failed(warehouse, monkeypatch):
    settings, events = load_settings(), days(load_settings())[0]["events"]
    for number, part in enumerate(events.head(600).iter_slices(200)):  # each is looked at for itself
        warehouse.append("events", part.with_columns(device=pl.lit("toaster")) if number == 1 else part)
    silver = {("silver", "events"): warehouse.silver("events")}
    monkeypatch.setattr(gate, "open_table", lambda _, *place: silver.get(place))
    monkeypatch.setattr(gate, "_ROWS_AT_ONCE", 200)
    with pytest.raises(GateFailed, match=r"expect_column_values_to_be_in_set on silver of events.device: 200 rows"):
        gate.run_gate(settings, "in-parts", "silver", ["events"])
    page = pages(settings) / "runs" / "in-parts" / "silver.html"
    (link,) = set(re.findall(r'href="([^"]+)"', page.read_text()))
    gate.run_gate(settings, "another", "published", ["orders"])
    assert "toaster" in (page.parent / link).read_text()  # the pages of one gate outlast the next


def test_of_a_few_rows_one_may_be_on_its_way(crm, published):
    warehouse, second = published
    crm("gate", "--run", "first")
    warehouse.append("events", second["events"].filter(pl.col("event_type") == "purchase").head(2))
    warehouse.publish("second", entities=["events"])  # whose orders have not come
    assert "purchase_with_an_order on lake.events" in crm("gate", "--run", "both", fails=True).stderr
    execute("delete from lake.events where ctid = (select max(ctid) from lake.events)")
    assert "is open" in crm("gate", "--run", "one").stdout


def test_what_a_gate_cannot_check_is_named_beside_the_rest(crm, published):
    warehouse, _ = published
    as_admin("alter table lake.profiles rename column signed_up_at to joined_at")
    told = crm("gate", "--run", "renamed", fails=True).stderr
    assert "customer_after_signing_up on lake.events: could not be checked" in told
    assert "on lake.profiles.signed_up_at" in told
    kept = "select count(*) filter (where success) > 50, count(*) filter (where not success) > 2 from ops.gate_results"
    assert warehouse.row(kept) == (True, True)
    as_admin("drop table lake.profiles cascade")
    assert "the warehouse stopped the gate" in crm("gate", "--run", "dropped", fails=True).stderr


def test_results_of_ninety_days_are_kept(crm, published):
    warehouse, _ = published
    verdict = "('old', 'events', now() - interval '{} days', 'e', true, 0, '[]')"
    columns = "run_id, entity, checked_at, expectation, success, failed_rows, failed_keys"
    execute(f"insert into ops.gate_results ({columns}) values {verdict.format(91)}, {verdict.format(89)}")
    columns = "run_id, node, kind, layer, model, status, seconds, ended_at"
    result = "('old', 'n', 'model', 'marts', 'm', 'success', 1, now() - interval '{} days')"
    execute(f"insert into ops.model_results ({columns}) values {result.format(91)}, {result.format(89)}")
    crm("gate", "--run", "new", "products")
    for table in ("gate_results", "model_results"):
        assert warehouse.row(f"select count(*) from ops.{table} where run_id = 'old'") == (1,), table


def test_a_table_of_another_version_is_named(crm, warehouse):
    as_admin("alter table lake.profiles drop column effective_at")
    assert "lake.profiles was made by another version" in crm("up", "postgres", fails=True).stderr


def test_a_replay_of_the_whole_heals_what_was_changed_by_hand(published):
    warehouse, _ = published
    execute("delete from lake.events where event_type = 'click'")
    execute("update lake.events set device = 'tablet'")
    others = ", ".join(columns()[2:])
    execute(f"insert into lake.events select schema_version, 'ff', {others} from lake.events limit 1")
    assert not warehouse.is_silver("events")
    batch = warehouse.row("select max(published_batch) from lake.events")
    assert warehouse.publish("whole", whole=True, entities=["events"]) > 0
    assert warehouse.is_silver("events")
    assert warehouse.row("select min(published_batch) from lake.events") > batch
    assert warehouse.row("select record_key from lake.deleted_keys") == (["ff"],)
    assert warehouse.publish("whole", whole=True, entities=["events"]) == 0  # the same run, again
    assert warehouse.row("select count(*) from pg_inherits where inhparent = 'lake.events'::regclass") == (1,)


@pytest.mark.parametrize("whole", [False, True])
def test_an_event_that_is_in_another_session_now_is_gone_from_the_one_it_was_in(published, whole):
    warehouse, _ = published
    event, session = warehouse.row("select event_id, session_id from lake.events limit 1")
    for number in range(2):
        warehouse.silver("events").update({"session_id": f"'moved-{number}'"}, predicate=f"event_id = '{event}'")
        warehouse.publish(f"moved-{number}", whole=whole, entities=["events"])
    noted = "select array_agg(belongs_to order by belongs_to) from lake.deleted_keys where record_key = array[%s]"
    assert warehouse.row(noted, event) == (sorted([session, "moved-0"]),)


def test_a_table_that_was_dropped_is_published_whole_again(crm, published):
    warehouse, second = published
    warehouse.append("orders", second["orders"])
    with connect(load_settings()) as connection:
        fix_window(connection, warehouse.silver("orders"), "before", "orders")
    as_admin("drop table lake.orders cascade")
    crm("up", "postgres")
    with pytest.raises(CrmError, match="what was published before it is gone"):
        warehouse.publish("before", entities=["orders"])
    assert warehouse.publish("after") > len(second["orders"])
    assert all(map(warehouse.is_silver, ENTITIES))


def test_the_whole_is_refused_to_a_run_that_takes_what_changed(published):
    warehouse, second = published
    warehouse.append("events", second["events"])
    assert warehouse.publish("second", entities=["events"]) > 0
    with pytest.raises(UsageError, match="take another run id"):
        warehouse.publish("second", whole=True, entities=["events"])


def columns():
    query = "select column_name from information_schema.columns where table_schema = 'lake' and table_name = 'events'"
    with connect(load_settings()) as connection:
        return [row[0] for row in connection.execute(query + " order by ordinal_position")]


def test_a_key_that_two_records_were_given_is_one_row(published):
    warehouse, second = published
    record = second["events"].head(1)
    later = record.with_columns(pl.col("occurred_at") + pl.duration(hours=1), pl.col("sequence") + 1)
    warehouse.append("events", pl.concat([record, later]))
    assert warehouse.publish("whole", whole=True, entities=["events"]) > 0
    query = "select count(*), max(sequence) from lake.events where event_id = %s"
    assert warehouse.row(query, record["event_id"][0]) == (1, later["sequence"][0])


@pytest.mark.parametrize("whole", [False, True])
def test_a_publish_that_breaks_off_has_written_nothing(published, monkeypatch, whole):
    warehouse, second = published
    warehouse.append("events", second["events"])
    before = warehouse.rows("lake.events")
    usual = module._copy

    def broken(connection, *words):
        usual(connection, *words)
        raise psycopg.OperationalError("the server closed the connection unexpectedly")

    monkeypatch.setattr(module, "_copy", broken)
    with pytest.raises(psycopg.OperationalError):
        warehouse.publish("second", whole=whole, entities=["events"])
    assert warehouse.rows("lake.events") == before
    monkeypatch.setattr(module, "_copy", usual)
    assert warehouse.publish("second", whole=whole, entities=["events"]) > 0
    assert warehouse.is_silver("events")


def test_runs_side_by_side_end_as_one(published):
    warehouse, second = published
    warehouse.append("events", second["events"])
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda run: warehouse.publish(run, entities=["events"]), "abab"))
    assert sorted(written) == [0, 0, 0, len(second["events"])]
    assert warehouse.is_silver("events")


@pytest.mark.parametrize("way", ["told to end", "connection lost"])
def test_a_gate_that_is_stopped_says_so_and_ends_and_so_does_its_query(published, crm, way):
    waiting = "select count(*) from pg_stat_activity where usename = 'crm_publisher' and wait_event_type = 'Lock'"
    server = admin_dsn(load_settings())
    with psycopg.connect(server, autocommit=True) as watcher, psycopg.connect(server, dbname="warehouse") as holder:
        holder.execute("lock table lake.events in access exclusive mode")
        asked = crm.start("gate", "--run", "told-to-end", "events")
        wait_for(lambda: watcher.execute(waiting).fetchone() != (0,), what="the gate to ask")
        if way == "told to end":
            asked.terminate()
            asked.communicate(timeout=30)
            assert asked.returncode == 143
        else:
            watcher.execute(waiting.replace("count(*)", "pg_terminate_backend(pid)"))
            told = asked.communicate(timeout=60)[1]
            assert asked.returncode == 1 and "the warehouse stopped the gate" in told and "Traceback" not in told
        wait_for(lambda: watcher.execute(waiting).fetchone() == (0,), 30, "its query to end")


def test_a_server_on_which_we_may_create_nothing_is_refused_with_what_it_takes(published):
    server = admin_dsn(load_settings())
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("create role guest login password 'guest'")
    try:
        with pytest.raises(ComponentFailed, match="must name a role that may create roles and databases"):
            prepare_warehouse(make_conninfo(server, user="guest", password="guest"), defaultdict(str))
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("drop role guest")
    assert all(map(published[0].is_silver, ENTITIES))
