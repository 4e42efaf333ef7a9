"""The way of the data on real components: what was made is what arrives, whatever happens on the way.

The tests share one stack and run in their order: each leaves it whole for the next.
"""

import json
import re
import stat
import subprocess
from collections import Counter
from datetime import datetime
from pathlib import Path

import httpx
import psutil
import psycopg
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, wait_for
from known import (
    check_quarantine,
    check_silver,
    history_window,
    kill_family,
    landed,
    made,
    publish_state,
    quarantine,
    refusals_told,
    revenue_in_marts,
    revenue_made,
    send_ten_malformed,
    sent_units,
    state_of,
    version_of,
)

from data_generator.cli import world_of
from data_generator.sinks.files import file_sink
from data_generator.sinks.kafka import KafkaSink
from data_generator.world.config import HOUR
from data_generator.world.records import Shop
from data_platform_core.contracts import CONTRACTS, ENTITIES, GENERATED
from data_platform_core.errors import ComponentFailed
from data_platform_core.kafka import client_settings
from data_platform_core.layers import TOPICS
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.warehouse import connect, warehouse_dsn
from home_server.airflow_api import AirflowApi
from home_server.demo import DAG

pytestmark = pytest.mark.stack


# --- the main job -----------------------------------------------------------------------------


def test_demo_lands_what_it_made_and_shows_it(demo):
    for word in ("made", "Kafka", "bronze", "silver", "published", "warehouse", "marts", "revenue_by_segment_and_day"):
        assert word in demo
    for entity in GENERATED:
        (line,) = [line for line in demo.splitlines() if line.split()[:1] == [entity]]
        made, kafka, bronze, _, *others, agree = line.split()[1:]
        assert {made, kafka, bronze, *others} == {made}
        assert made != "0"
        assert agree == "yes"


def test_history_made_again_adds_nothing(crm, settings):
    before = [stores.kafka_count(settings, entity) for entity in ENTITIES]
    first, end = history_window(settings)
    again = json.loads(crm("generate", "backfill", "--from", first, "--to", end, "--json").stdout)
    assert again["records"] == 0
    assert [stores.kafka_count(settings, entity) for entity in ENTITIES] == before


def test_records_go_to_files_in_a_bucket_too(crm, settings):
    day, _ = history_window(settings)
    words = ("generate", "backfill", "--from", day, "--to", day, "--format", "parquet", "--json", "--out")
    told = json.loads(crm(*words, "s3://lake/export").stdout)
    sink = file_sink(settings, "s3://lake/export", "parquet")
    found = sink.files.get_file_info(pyarrow.fs.FileSelector(sink.root, recursive=True))
    files = [file.path for file in found if file.path.endswith(".parquet")]
    assert {file.split("/")[2] for file in files} == set(GENERATED)
    assert told["records"] == sum(pq.read_metadata(file, filesystem=sink.files).num_rows for file in files) > 1000
    assert json.loads(crm(*words, "s3://lake/export").stdout)["records"] == 0
    assert "has no bucket nowhere" in crm(*words, "s3://nowhere/x", fails=True).stderr


def test_status_tells_other_tools_all_they_need(crm, settings):
    found = crm.status()
    assert {part["state"] for part in found["components"]} == {"running"}
    for part in found["components"]:
        assert psutil.pid_exists(part["pid"])
        assert Path(part["log"]).exists()
        assert part["address"]
    assert found["kafka"] == {"bootstrap": settings.kafka_address, "topics": TOPICS}
    assert found["lake"]["root"] == "s3a://lake"
    assert found["lake"]["s3_endpoint"] == settings.s3_url
    with psycopg.connect(found["warehouse"]["dsn"], password=settings.secret("dbt_password")) as connection:
        assert connection.execute("select count(*) > 0 from lake.events").fetchone() == (True,)


# --- safe by default --------------------------------------------------------------------------


def test_everything_listens_on_loopback_only(crm):
    ours = set()
    for part in crm.status()["components"]:
        process = psutil.Process(part["pid"])
        ours |= {process.pid, *(child.pid for child in process.children(recursive=True))}
    listening = [c for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid in ours]
    assert len(listening) >= 7
    open_to_others = {c.laddr.ip for c in listening} - {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert open_to_others == set(), [(c.laddr, psutil.Process(c.pid).cmdline()[:3]) for c in listening]


def test_passwords_are_readable_by_their_owner_only(settings):
    passwords = [field for field in type(settings).model_fields if field.endswith(("password", "_secret", "_key"))]
    # The access key is a user's name, and the stack's own Kafka, on loopback, has no users.
    values = [settings.secret(name) for name in passwords if name not in ("s3_access_key", "kafka_password")]
    assert len(set(values)) == len(values) >= 8
    for file in settings.stack_dir.rglob("*"):
        is_text = file.is_file() and file.stat().st_size < 20_000_000 and "data/minio" not in str(file)
        if is_text and any(value.encode() in file.read_bytes() for value in values):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_wrong_password_is_refused(settings):
    for role in ("postgres", "crm_dbt", "crm_publisher", "airflow"):
        dsn = warehouse_dsn(settings, role)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(dsn, password="wrong")


def test_a_topic_that_does_not_exist_is_named(settings, monkeypatch):
    monkeypatch.setitem(TOPICS, "events", "crm.nothing.v1")
    with pytest.raises(ComponentFailed, match=r"has no topic crm\.nothing\.v1"):
        KafkaSink(client_settings(settings))


def test_roles_have_no_more_rights_than_they_need(settings):
    refused = [
        ("crm_dbt", "insert into lake.events select * from lake.events"),
        ("crm_dbt", "delete from lake.orders"),
        ("crm_dbt", "update ops.publish_marks set version = 0"),
        ("crm_dbt", "create table lake.mine (x int)"),
        ("crm_publisher", "delete from marts.revenue_by_segment_and_day"),
        ("crm_publisher", "drop table lake.events"),
        ("crm_publisher", "create schema mine"),
    ]
    for role, statement in refused:
        with connect(settings, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


# --- the three ways to use it -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("cd dbt && dbt run", "Completed successfully"),
        ("cd dbt && dbt build", "Completed successfully"),
        ("airflow version", "3."),
        ("ansible-playbook -i ansible/inventories/home ansible/site.yml --syntax-check", "playbook: "),
        ("spark-submit --version", "4.2"),
        ("crm audit", "yes"),
    ],
)
def test_commands_are_typed_as_their_users_know_them(demo, command, says):
    shell = f"source env.sh && {command}"
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert says in done.stdout + done.stderr


# --- crashes ----------------------------------------------------------------------------------


def test_nothing_is_lost_or_doubled_when_the_stream_dies_between_two_commits(crm, settings):
    crm("down", "stream")
    crm("generate", "live", "--tps", "60", "--for", "4s")
    bad = send_ten_malformed(settings)
    bronze, silver = (version_of(settings, layer, "events") for layer in ("bronze", "silver"))
    crm("up", "stream", env={"CRM_FAIL_POINT": "before_bronze:events"})
    wait_for(lambda: state_of(crm, "stream") == "died", what="the death of the stream at its fail-point")
    assert version_of(settings, "silver", "events") == silver + 1, "silver was not committed before the stream died"
    assert version_of(settings, "bronze", "events") == bronze, "bronze was committed although the stream died before"
    died = crm("status", fails=True)
    assert "stream died" in died.stderr
    crm("up", "stream")
    wait_for(lambda: landed(settings), what="what was sent to land")
    assert version_of(settings, "silver", "events") == silver + 1, "the batch was written into silver twice"
    check_silver(settings)
    check_quarantine(settings, bad)


def test_records_sent_again_are_settled(settings):
    unit = next(u for u in sent_units(settings) if u.entity == "orders" and u.end - u.start > HOUR)
    records = Shop(world_of(settings)).records("orders", unit.start, unit.end)
    before = stores.kafka_count(settings, "orders")
    sink = KafkaSink(client_settings(settings))
    sink.put(unit, sink.prepare(unit, records))
    sink.flush()
    assert stores.kafka_count(settings, "orders") == before + len(records) > before
    wait_for(lambda: landed(settings), what="the repeats to land")
    check_silver(settings)


def test_faults_become_what_is_told_of_them(crm, settings, tmp_path):
    kinds = ("truncated", "wrong_type", "wrong_encoding", "oversize", "added_field", "version_2", "clock_skew")
    more = ("version_2_incompatible", "future_dated", "duplicated", "reordered", "late")
    faults = [{"kind": kind, "share": 0.02} for kind in (*kinds, *more)]
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps({"seed": 3, "faults": faults}))  # YAML holds JSON
    before = {entity: Counter(quarantine(settings, entity)["reason"]) for entity in GENERATED}
    crm("generate", "live", "--tps", "60", "--for", "10s", "--faults", str(plan))
    wait_for(lambda: landed(settings), what="what was sent to land")
    check_silver(settings)
    told = [json.loads(line) for line in (settings.ledger_file.parent / "faults.jsonl").read_text().splitlines()]
    assert {fault["fault"] for fault in told if fault["topic"] == TOPICS["events"]} == {
        fault["kind"] for fault in faults
    }
    for entity in GENERATED:
        refused = Counter(quarantine(settings, entity)["reason"])
        refused.subtract(before[entity])
        assert +refused == refusals_told(settings, entity), entity


def test_a_killed_generator_sends_again_what_it_had_begun(crm, settings):
    generator = crm.start("generate", "live", "--tps", "400", "--for", "60s")
    program = psutil.Process(generator.pid)

    def is_caught_between_begun_and_sent():
        program.suspend()
        # events are the first to be known as sent: with them unfinished, nothing of the second is
        if any(unit.entity == "events" for unit in Ledger(settings.ledger_file).unfinished_units()):
            return True
        program.resume()
        return False

    wait_for(is_caught_between_begun_and_sent, 50, "a unit begun and not sent")
    program.kill()
    generator.wait()
    assert Ledger(settings.ledger_file).unfinished_units() != []
    again = json.loads(crm("generate", "live", "--tps", "20", "--for", "1s", "--json").stdout)
    assert again["sent_again"] > 0
    assert Ledger(settings.ledger_file).unfinished_units() == []
    wait_for(lambda: landed(settings), what="what was sent to land")
    check_silver(settings)


def test_a_component_that_died_is_named_and_started_again(crm, settings):
    store = settings.s3_store
    kill_family(next(part["pid"] for part in crm.status()["components"] if part["name"] == store))
    assert f"{store} died" in crm("status", fails=True).stderr
    crm("up", store)
    assert state_of(crm, store) == "running"
    crm("up", "stream")


# --- Airflow, gate and marts ------------------------------------------------------------------


def test_a_triggered_run_brings_exact_sums_into_the_marts_and_shows_what_it_did(settings):
    wait_for(lambda: landed(settings), what="what was sent to land")
    airflow = AirflowApi(settings)
    run = airflow.trigger(DAG, {"full_refresh": False})
    assert airflow.wait_for_run(DAG, run) == "success", [(t["task_id"], t["state"]) for t in airflow.tasks(DAG, run)]
    assert revenue_in_marts(settings) == revenue_made(settings)
    with connect(settings, "crm_dbt") as connection:
        for entity in GENERATED:
            contract = CONTRACTS[entity]
            key = ", ".join(contract.key)
            published = set(connection.execute(f"select {key} from lake.{entity}").fetchall())
            assert published == set(made(settings, entity).select(contract.key).rows())
            assert stores.published_digest(connection, entity) == Ledger(settings.ledger_file).made(entity)
            assert stores.warehouse_count(connection, entity) == stores.mart_count(connection, entity) == len(published)
    for task, words in {
        "gate_silver": ("expect_column_values_to_not_be_null", "quarantine_within_budget", "events"),
        "gate_published": ("order_of_a_customer", "purchase_with_an_order", "expect_column_values_to_be_in_set"),
        "show_warehouse": ("dim_customer", "fct_orders"),
        "show_marts": ("customer_360", "churn_risk"),
    }.items():
        page = airflow.page(airflow.links(DAG, run, task)["Page"])
        assert [word for word in words if word not in page] == [], task
    for task in ("gate_silver", "gate_published"):
        page = airflow.page(airflow.links(DAG, run, task)["Page"])
        found = set(re.findall(r'href="../../(validations/[^"]+)"', page))
        assert found, task
        assert all("Validation Result" in airflow.page(f"/quality/{link}") for link in found), task
    assert "Validation Results" in airflow.page("/quality/index.html")
    assert httpx.get(f"{settings.airflow_url}/quality/index.html", trust_env=False).status_code == 401


def test_no_run_has_failed_so_far(settings):
    runs = AirflowApi(settings).runs(DAG)
    assert runs
    assert [run["dag_run_id"] for run in runs if run["state"] == "failed"] == []


def test_a_cleared_run_takes_the_same_versions_and_changes_nothing(crm, settings):
    airflow = AirflowApi(settings)
    # the hourly run would publish what this test leaves unpublished on purpose
    wait_for(lambda: datetime.now().minute not in (57, 58, 59), 200, "the full hour to pass")
    run = airflow.trigger(DAG)
    assert airflow.wait_for_run(DAG, run) == "success"
    before = publish_state(settings)
    crm("generate", "live", "--tps", "30", "--for", "2s")  # the lake goes on; the run must not
    wait_for(lambda: landed(settings), what="what was sent to land")
    airflow.clear(DAG, run)
    wait_for(lambda: airflow.run(DAG, run)["state"] not in ("success", "failed"), 60, "the cleared run to start")
    assert airflow.wait_for_run(DAG, run) == "success"
    assert publish_state(settings) == before


def test_a_closed_gate_leaves_yesterdays_marts_and_says_which_rows(settings):
    airflow = AirflowApi(settings)
    marts = revenue_in_marts(settings)
    with connect(settings) as connection:
        order, event, total = connection.execute(
            "select order_id, order_event_id, total_minor from lake.orders order by order_event_id limit 1"
        ).fetchone()
        # as if a publish had brought it
        change = "update lake.orders set total_minor = %s, published_batch = nextval('ops.published_batch')"
        connection.execute(f"{change} where order_event_id = %s", (-5, event))
    run = airflow.trigger(DAG, {"full_refresh": True})
    assert airflow.wait_for_run(DAG, run) == "failed"
    states = {task["task_id"]: task["state"] for task in airflow.tasks(DAG, run)}
    assert (states["publish"], states["gate_published"], states["model"]) == ("success", "failed", "upstream_failed")
    assert (states["show_marts"], states["built"]) == ("skipped", "upstream_failed")
    log = airflow.log(DAG, run, "gate_published", 1)
    assert "expect_column_values_to_be_between on lake.orders.total_minor: 1 rows" in log
    assert f"{order}/{event}" in log
    assert revenue_in_marts(settings) == marts
    with connect(settings) as connection:
        connection.execute(f"{change} where order_event_id = %s", (total, event))
    run = airflow.trigger(DAG)
    assert airflow.wait_for_run(DAG, run) == "success"
    assert revenue_in_marts(settings) == revenue_made(settings)


def test_a_second_demo_starts_warm_and_agrees(crm, settings):
    told = crm("demo", "--live", "5").stdout
    (history,) = [line for line in told.splitlines() if "✓ history" in line]
    assert "there" in history
    # ten malformed messages were sent: Kafka and bronze hold them, quarantine accounts for them
    verdicts = [line.split()[-1] for line in told.splitlines() if line.split()[:1] and line.split()[0] in GENERATED]
    assert verdicts == ["yes"] * len(GENERATED)
