"""The main job and the stack that it leaves: from the generator through Airflow's runs to the marts.

The tests share one stack and run in their order: each leaves it whole for the next.
"""

import json
import re
import stat
import subprocess
from datetime import datetime
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from conftest import ROOT, wait_for
from known import landed, made, publish_state, revenue_in_marts, revenue_made, send_ten_malformed

from data_platform_core.contracts import CONTRACTS, GENERATED
from data_platform_core.layers import TOPICS
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import load_settings
from data_platform_core.warehouse import connect, warehouse_dsn
from home_server.airflow_api import AirflowApi
from home_server.demo import DAG

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def settings(demo):
    return load_settings()


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


def test_status_tells_other_tools_all_they_need(settings):
    program = settings.home / "bin" / "crm"
    found = json.loads(subprocess.run([program, "status", "--json"], capture_output=True, check=True).stdout)
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
        pytest.param("cd dbt && dbt build", "Completed successfully", marks=pytest.mark.drill),  # a DAG's run is one
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


# --- Airflow, gate and marts: one story in four runs of the DAG, after the demo's own -------------------------


@pytest.fixture(scope="module")
def airflow(settings):
    return AirflowApi(settings)


@pytest.fixture(scope="module")
def second_run(crm, settings, airflow):
    """A triggered run, after the demo's own, of what came since: faulty, malformed and late records among it."""
    plan = settings.stack_dir / "faults.yaml"
    kinds = ("truncated", "wrong_type", "wrong_encoding", "oversize", "added_field", "version_2", "clock_skew")
    more = ("version_2_incompatible", "future_dated", "duplicated", "reordered", "late")
    faults = [{"kind": kind, "share": 0.02} for kind in (*kinds, *more)]
    plan.write_text(json.dumps({"seed": 3, "faults": faults}))  # YAML holds JSON
    crm("generate", "live", "--tps", "60", "--for", "8s", "--faults", str(plan))
    send_ten_malformed(settings)
    wait_for(lambda: landed(settings), what="what was sent to land")
    # the hourly run would publish what the tests leave unpublished on purpose
    wait_for(lambda: datetime.now().minute not in (57, 58, 59), 200, "the full hour to pass")
    run = airflow.trigger(DAG, {"full_refresh": False})
    assert airflow.wait_for_run(DAG, run) == "success", [(t["task_id"], t["state"]) for t in airflow.tasks(DAG, run)]
    return run


def test_a_triggered_run_brings_exact_sums_into_the_marts(settings, second_run):
    assert revenue_in_marts(settings) == revenue_made(settings)
    with connect(settings, "crm_dbt") as connection:
        for entity in GENERATED:
            contract = CONTRACTS[entity]
            key = ", ".join(contract.key)
            published = set(connection.execute(f"select {key} from lake.{entity}").fetchall())
            assert published == set(made(settings, entity).select(contract.key).rows())
            assert stores.published_digest(connection, entity) == Ledger(settings.ledger_file).made(entity)
            assert stores.warehouse_count(connection, entity) == stores.mart_count(connection, entity) == len(published)


def test_a_run_shows_what_it_did(settings, airflow, second_run):
    for task, words in {
        "gate_silver": ("expect_column_values_to_not_be_null", "quarantine_within_budget", "events"),
        "gate_published": ("order_of_a_customer", "purchase_with_an_order", "expect_column_values_to_be_in_set"),
        "show_warehouse": ("dim_customer", "fct_orders"),
        "show_marts": ("customer_360", "churn_risk"),
    }.items():
        page = airflow.page(airflow.links(DAG, second_run, task)["Page"])
        assert [word for word in words if word not in page] == [], task
    for task in ("gate_silver", "gate_published"):
        page = airflow.page(airflow.links(DAG, second_run, task)["Page"])
        found = set(re.findall(r'href="../../(validations/[^"]+)"', page))
        assert found, task
        assert all("Validation Result" in airflow.page(f"/quality/{link}") for link in found), task
    assert "Validation Results" in airflow.page("/quality/index.html")
    assert httpx.get(f"{settings.airflow_url}/quality/index.html", trust_env=False).status_code == 401


def test_no_run_has_failed_so_far(airflow, second_run):
    runs = airflow.runs(DAG)
    assert len(runs) >= 2
    assert [run["dag_run_id"] for run in runs if run["state"] == "failed"] == []


def test_a_cleared_run_takes_the_same_versions_and_changes_nothing(crm, settings, airflow, second_run):
    before = publish_state(settings)
    crm("generate", "live", "--tps", "30", "--for", "2s")  # the lake goes on; the run must not
    wait_for(lambda: landed(settings), what="what was sent to land")
    airflow.clear(DAG, second_run)
    wait_for(lambda: airflow.run(DAG, second_run)["state"] not in ("success", "failed"), 60, "the cleared run to start")
    assert airflow.wait_for_run(DAG, second_run) == "success"
    assert publish_state(settings) == before


def test_a_closed_gate_leaves_yesterdays_marts_and_a_demo_after_it_starts_warm_and_agrees(crm, settings, airflow):
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
    told = crm("demo", "--live", "5").stdout  # whose run brings what was held back, and heals the marts
    assert revenue_in_marts(settings) == revenue_made(settings)
    (history,) = [line for line in told.splitlines() if "✓ history" in line]
    assert "there" in history
    # malformed messages were sent: Kafka and bronze hold them, quarantine accounts for them
    verdicts = [line.split()[-1] for line in told.splitlines() if line.split()[:1] and line.split()[0] in GENERATED]
    assert verdicts == ["yes"] * len(GENERATED)
