"""Every DAG as its users run it: by Airflow's scheduler, with its form, on a stack of its own. `make drill`.

The tests share one stack and run in their order.
"""

import json
import os
import shutil
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import psycopg
import pytest
from confluent_kafka import Producer
from conftest import ROOT, SMALL_WORLD, Crm, wait_for
from known import kill_family, landed, send_ten_malformed, state_of

from data_platform_core.contracts import ENTITIES
from data_platform_core.layers import TOPICS
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import load_settings
from data_platform_core.warehouse import connect
from home_server.airflow_api import AirflowApi
from home_server.environment import admin_dsn

pytestmark = [pytest.mark.stack, pytest.mark.drill]

PUBLISH = "crm_publish_and_model"
DAGS = (PUBLISH, "crm_backfill", "crm_lake_maintenance", "crm_stream_watch", "crm_quality_report")
FILES = ("2026-03-02", "2026-03-05")
"""Days that come by files; live traffic is of today."""


class Receiver:
    """Keeps what is posted to it, on loopback."""

    def __init__(self):
        self.told = []
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def webhook():
    return Receiver()


@pytest.fixture(scope="module")
def stack(webhook, tmp_path_factory):
    """A stack with a day's traffic landed, whose DAGs run when they are asked to."""
    if "CRM_STACK" not in os.environ:
        pytest.skip("needs a stack of its own: run it by `make test`")
    folder, crm = tmp_path_factory.mktemp("airflow"), Crm()
    words = {
        "CRM_STACK": str(folder / "stack"),
        "CRM_PORT_OFFSET": str(int(os.environ["CRM_PORT_OFFSET"]) + 600),
        **SMALL_WORLD,
        "CRM_ALERT_WEBHOOK": f"{webhook.url}/alerts",
        "CRM_OPENLINEAGE": str(folder / "lineage.jsonl"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in words.items():
            patch.setenv(name, value)
        try:
            crm("up")
            day = datetime.now(UTC).date() - timedelta(days=2)
            crm("generate", "backfill", "--from", f"{day}", "--to", f"{day}")
            settings = load_settings()
            wait_for(lambda: landed(settings), what="a day to land")
            yield Stack(settings, crm, folder)
        finally:
            crm("reset", "--yes")


class Stack:
    """The stack, and Airflow as a user has it."""

    def __init__(self, settings, crm, folder):
        self.settings, self.crm, self.folder = settings, crm, folder
        self.airflow = AirflowApi(settings)
        for dag in DAGS:
            self.airflow.wait_for_dag(dag)

    def run(self, dag, params=None, ends="success"):
        """Trigger a run and wait for its end; returns its id."""
        run = self.airflow.trigger(dag, params)
        assert self.airflow.wait_for_run(dag, run) == ends, self.states(dag, run)
        return run

    def states(self, dag, run):
        return {(task["task_id"], task["map_index"]): task["state"] for task in self.airflow.tasks(dag, run)}

    def log(self, dag, run, task, map_index=-1):
        (found,) = [
            one for one in self.airflow.tasks(dag, run) if (one["task_id"], one["map_index"]) == (task, map_index)
        ]
        return self.airflow.log(dag, run, task, found["try_number"], map_index)

    def land_traffic(self, tps, seconds):
        """Live traffic, waited for in the lake."""
        self.crm("generate", "live", "--tps", str(tps), "--for", f"{seconds}s")
        wait_for(lambda: landed(self.settings), what="what was sent to land")

    def page(self, dag, run, task):
        """The page that a task links to, as a browser that has logged in gets it."""
        return self.airflow.page(self.airflow.links(dag, run, task)["Page"])


def test_lineage_goes_to_the_file_that_the_setting_names(stack):
    stack.run(PUBLISH)
    events = [json.loads(line) for line in (stack.folder / "lineage.jsonl").read_text().splitlines()]
    assert {event["eventType"] for event in events} >= {"START", "COMPLETE"}
    assert any(event["job"]["name"].startswith(f"{PUBLISH}.publish") for event in events)


# --- backfill ---------------------------------------------------------------------------------


def test_a_backfill_lands_whole_days_and_the_models_follow(stack):
    stack.crm("generate", "backfill", "--from", FILES[0], "--to", FILES[1], "--out", "s3://lake/export")
    form = {"first_day": FILES[0], "last_day": FILES[1], "days_a_chunk": 3}
    before, before_files = len(stack.airflow.runs(PUBLISH)), stores.silver_digest(stack.settings, "events").count
    run = stack.run("crm_backfill", form)
    states = stack.states("crm_backfill", run)
    assert sorted(index for task, index in states if task == "land") == list(range(2 * len(ENTITIES)))
    digest = stores.silver_digest(stack.settings, "events")
    assert digest.count > before_files
    assert digest == Ledger(stack.settings.ledger_file).made("events")  # it has the files' records booked
    following = wait_for(lambda: stack.airflow.runs(PUBLISH)[before:], what="the run that the backfill set off")
    assert following[0]["run_type"] == "asset_triggered"
    assert stack.airflow.wait_for_run(PUBLISH, following[0]["dag_run_id"]) == "success"
    with connect(stack.settings, "crm_dbt") as connection:
        assert stores.published_digest(connection, "events") == digest
        assert stores.warehouse_count(connection, "events") == digest.count
    # cleared, all of it runs again and changes nothing
    stack.airflow.clear("crm_backfill", run)
    wait_for(lambda: stack.airflow.run("crm_backfill", run)["state"] not in ("success", "failed"), 60, "a new start")
    assert stack.airflow.wait_for_run("crm_backfill", run) == "success"
    assert stores.silver_digest(stack.settings, "events") == digest


def test_days_that_have_not_been_are_refused_at_their_task(stack, webhook):
    later = str(datetime.now(UTC).date() + timedelta(days=30))
    run = stack.run("crm_backfill", {"first_day": later, "last_day": later}, ends="failed")
    log = stack.log("crm_backfill", run, "chunks")
    assert f"{later} to {later} has not been yet" in log
    told = [one for one in webhook.told if one["run"] == run]
    assert [(one["dag"], one["task"]) for one in told] == [("crm_backfill", "chunks")]


def test_days_of_which_there_are_no_files_are_refused_at_their_task(stack):
    form = {"first_day": "2026-01-01", "last_day": "2026-01-01", "entities": ["orders"], "folder": "s3://lake/export"}
    run = stack.run("crm_backfill", form, ends="failed")
    assert "holds no files of 2026-01-01 to 2026-01-01" in stack.log("crm_backfill", run, "land", 0)


# --- the lake's own DAGs ----------------------------------------------------------------------


def test_maintenance_asks_the_application_and_waits(stack):
    before = stores.silver_digest(stack.settings, "events")
    run = stack.run("crm_lake_maintenance", {"compact_only": True})
    assert "silver.events" in stack.log("crm_lake_maintenance", run, "maintain")
    assert stores.silver_digest(stack.settings, "events") == before


def test_the_watch_starts_again_what_died_and_leaves_alone_what_was_stopped(stack):
    run = stack.run("crm_stream_watch")
    assert "lives and lands" in stack.log("crm_stream_watch", run, "watch")
    kill_family(next(part["pid"] for part in stack.crm.status()["components"] if part["name"] == "stream"))
    assert state_of(stack.crm, "stream") == "died"
    run = stack.run("crm_stream_watch")
    assert "the stream died: it is started again" in stack.log("crm_stream_watch", run, "watch")
    assert state_of(stack.crm, "stream") == "running"
    stack.crm("down", "stream")
    run = stack.run("crm_stream_watch")
    assert stack.states("crm_stream_watch", run) == {("watch", -1): "skipped"}
    assert state_of(stack.crm, "stream") == "stopped"
    stack.crm("up", "stream")


def test_the_watch_starts_again_what_is_stuck(stack):
    stack.land_traffic(20, 2)
    pid = next(part["pid"] for part in stack.crm.status()["components"] if part["name"] == "stream")
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        process.suspend()
    stack.crm("generate", "live", "--tps", "20", "--for", "2s")
    told = stack.crm("watch", "--silent", "30").stdout
    assert "no batch of" in told and "is started again" in told
    wait_for(lambda: landed(stack.settings), what="what was sent to land")
    assert not [process for process in family if process.is_running()]


# --- gates ------------------------------------------------------------------------------------


def test_the_quality_report_looks_at_all_that_is_published(stack):
    run = stack.run("crm_quality_report")
    states = {"gate_published": "success", "test_staging": "success", "audit": "skipped"}
    assert stack.states("crm_quality_report", run) == {(task, -1): state for task, state in states.items()}
    tested = "select distinct run_id from ops.model_results where kind = 'test' and layer = 'staging'"
    with connect(stack.settings) as connection:  # all rows are looked at here, and not by the hourly run
        assert connection.execute(tested).fetchall() == [(run,)]
    change(stack, "update lake.events set device = 'toaster' where sequence = (select min(sequence) from lake.events)")
    run = stack.run("crm_quality_report", ends="failed")
    assert "expect_column_values_to_be_in_set on lake.events.device" in stack.log(
        "crm_quality_report", run, "gate_published"
    )
    assert stack.states("crm_quality_report", run)["test_staging", -1] == "failed"
    page = stack.page("crm_quality_report", run, "gate_published")
    assert "expect_column_values_to_be_in_set" in page and ">no<" in page
    stack.crm("publish", "--run", "mended", "--whole", "events")
    again = stack.crm("publish", "--run", "mended", "--whole", "events", fails=True)
    assert "the run mended was done before" in again.stderr
    stack.run("crm_quality_report")


def test_a_quarantine_over_its_budget_publishes_nothing_until_it_is_within(stack, webhook):
    before = marks(stack)
    for _ in range(40):
        send_ten_malformed(stack.settings)
    wait_for(lambda: landed(stack.settings), what="malformed messages to land")
    run = stack.run(PUBLISH, ends="failed")
    states = stack.states(PUBLISH, run)
    assert (states["gate_silver", -1], states["publish", -1]) == ("failed", "upstream_failed")
    assert "of the last 24 h are in quarantine" in stack.log(PUBLISH, run, "gate_silver")
    assert marks(stack) == before
    assert [one["task"] for one in webhook.told if one["run"] == run] == ["gate_silver"]
    stack.land_traffic(400, 15)
    stack.run(PUBLISH)
    assert marks(stack) != before


def test_a_broken_law_leaves_the_marts_until_it_holds_again(stack):
    marts = mart(stack)
    as_admin(stack, "update lake.profiles set signed_up_at = now() + interval '1 year'")
    as_admin(stack, "update lake.orders set published_batch = nextval('ops.published_batch')")
    as_admin(stack, "update ops.publish_marks set published_batch = (select last_value from ops.published_batch)")
    run = stack.run(PUBLISH, {"full_refresh": True}, ends="failed")
    assert stack.states(PUBLISH, run)["model", -1] == "upstream_failed"
    assert "order_of_a_customer on lake.orders" in stack.log(PUBLISH, run, "gate_published")
    assert mart(stack) == marts
    stack.crm("publish", "--run", "mended-law", "--whole", "profiles")
    stack.run(PUBLISH)


def test_a_task_that_is_killed_in_the_middle_is_tried_again_and_changes_nothing(stack):
    stack.land_traffic(100, 3)
    run = stack.airflow.trigger(PUBLISH)
    wait_for(lambda: kill_command("publish", run), what="the publish to run")
    assert stack.airflow.wait_for_run(PUBLISH, run) == "success"
    tries = {task["task_id"]: task["try_number"] for task in stack.airflow.tasks(PUBLISH, run)}
    assert (tries["publish"], tries["model"]) == (2, 1)
    check_published(stack)


def test_a_run_that_takes_too_long_is_told_of(stack, webhook):
    run = stack.airflow.trigger("crm_quality_report", {"audit": False})
    wait_for(lambda: stack.airflow.run("crm_quality_report", run)["state"] == "running", what="the run to begin")
    with psycopg.connect(admin_dsn(stack.settings), dbname="airflow") as connection:  # as if hours had gone by
        connection.execute("update dag_run set start_date = start_date - interval '1 day' where run_id = %s", (run,))
    assert stack.airflow.wait_for_run("crm_quality_report", run) == "failed"
    told = wait_for(lambda: [one for one in webhook.told if one["run"] == run], what="the webhook to be told")
    assert "took longer than its dagrun_timeout" in told[0]["error"]


def test_a_run_whose_logical_date_has_not_come_ends_at_once_and_says_why(stack, webhook):
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    run = stack.airflow.trigger(PUBLISH, logical_date=tomorrow)
    assert stack.airflow.wait_for_run(PUBLISH, run, within_seconds=60) == "failed"
    assert "has not come" in stack.airflow.run(PUBLISH, run)["note"]
    told = wait_for(lambda: [one for one in webhook.told if one["run"] == run], what="the webhook to be told")
    assert [(one["task"], "has not come" in one["error"]) for one in told] == [(None, True)]


def test_a_mart_that_was_dropped_is_there_after_the_next_run(stack):
    marts = mart(stack)
    with connect(stack.settings, "crm_dbt") as connection:
        connection.execute("drop table marts.activity_by_day cascade")
    stack.run(PUBLISH)
    assert mart(stack) == marts


# --- without a scheduler ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dag", "form"),
    [
        (PUBLISH, {}),
        ("crm_backfill", {"first_day": FILES[0], "last_day": FILES[0], "entities": ["products"]}),
        ("crm_lake_maintenance", {"compact_only": True}),
        ("crm_stream_watch", {}),
        ("crm_quality_report", {"audit": False}),
    ],
)
def test_a_dag_runs_by_hand(stack, dag, form):
    stack.crm("generate", "backfill", "--from", FILES[0], "--to", FILES[0], "--out", "s3://lake/export")
    command = f"source env.sh && airflow dags test {dag} --conf '{json.dumps(form)}'"
    endpoint = Receiver()
    environment = os.environ | {"CRM_OPENLINEAGE": endpoint.url}
    stack.crm("down", "airflow-scheduler")  # on a slow machine it takes a task of the run for its own
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    stack.crm("up", "airflow-scheduler")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "state=success" in done.stdout + done.stderr
    lineage = {(event["job"]["name"].split(".")[0], event["eventType"]) for event in endpoint.told}
    assert lineage >= {(dag, "START"), (dag, "COMPLETE")}


# --- bad input --------------------------------------------------------------------------------


def test_a_column_that_was_renamed_is_named_and_nothing_is_lost(stack):
    stack.land_traffic(20, 2)
    before = marks(stack)
    as_admin(stack, "alter table lake.events rename column device to gadget")
    told = stack.crm("publish", "--run", "renamed", fails=True).stderr
    assert 'column "device"' in told and "nothing of the entity at hand was written" in told
    assert dict(marks(stack))["events"] == dict(before)["events"]
    as_admin(stack, "alter table lake.events rename column gadget to device")
    stack.run(PUBLISH)
    assert dict(marks(stack))["events"] > dict(before)["events"]


def test_a_role_without_rights_is_named_and_nothing_is_lost(stack):
    stack.land_traffic(20, 2)
    as_admin(stack, "revoke insert on lake.events from crm_publisher")
    told = stack.crm("publish", "--run", "without-rights", fails=True).stderr
    assert "permission denied for table events" in told
    as_admin(stack, "grant insert on lake.events to crm_publisher")
    stack.run(PUBLISH)
    check_published(stack)


def test_a_warehouse_that_goes_away_in_the_middle_is_named_and_nothing_is_lost(stack):
    stack.land_traffic(20, 2)
    before = marks(stack)
    end = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where usename = 'crm_publisher' and wait_event_type = 'Lock'"
    )
    with psycopg.connect(admin_dsn(stack.settings), dbname="warehouse") as holder:
        holder.execute("lock table lake.events in access exclusive mode")
        publish = stack.crm.start("publish", "--run", "goes-away", "events")
        wait_for(lambda: as_admin(stack, end) != (0,), what="the publish to be in the middle")
        _, told = publish.communicate(timeout=60)
    assert publish.returncode == 1 and "the warehouse stopped the publish" in told and "Traceback" not in told
    assert marks(stack) == before
    stack.run(PUBLISH)
    check_published(stack)


def test_a_dag_is_triggered_in_the_ui_by_its_form(stack, tmp_path):
    from playwright.sync_api import sync_playwright

    settings = stack.settings
    password = settings.secret("airflow_admin_password")
    flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=flags.split())
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(settings.airflow_url)
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/login" not in url)  # its own way on would break off the next
        page.goto(f"{settings.airflow_url}/dags/{PUBLISH}")
        page.get_by_role("button", name="Trigger").first.click()
        before = {run["dag_run_id"] for run in stack.airflow.runs(PUBLISH)}
        page.get_by_role("dialog").get_by_role("button", name="Trigger").click()
        run = wait_for(
            lambda: next((r for r in stack.airflow.runs(PUBLISH) if r["dag_run_id"] not in before), None),
            what="the run that was triggered by a click",
        )
        assert stack.airflow.wait_for_run(PUBLISH, run["dag_run_id"]) == "success"
        page.reload()
        page.wait_for_timeout(3000)
        page.screenshot(path=os.environ.get("CRM_SCREENSHOT", str(tmp_path / "grid.png")))
        browser.close()


def test_a_key_of_two_records_closes_the_gate_until_they_are_published_by_hand(stack):
    record = json.loads((ROOT / "data-platform-core/tests/contracts/events.1.minimal.pass.json").read_text())
    producer = Producer({"bootstrap.servers": stack.settings.kafka_address})
    for number in range(2):
        value = json.dumps(record | {"occurred_at": f"{FILES[0]}T0{number}:00:00.000000Z", "sequence": number})
        producer.produce(TOPICS["events"], value.encode(), key=record["visitor_id"].encode())
        assert producer.flush(30) == 0
        wait_for(lambda: landed(stack.settings), what="what was sent to land")
    for _ in range(2):
        run = stack.run(PUBLISH, ends="failed")
        assert "expect_column_values_to_be_unique" in stack.log(PUBLISH, run, "gate_silver")
    stack.crm("publish", "--run", "twins", "events")
    stack.run(PUBLISH)
    with connect(stack.settings, "crm_dbt") as connection:
        query = "select count(*), max(sequence) from warehouse.fct_events where event_id = %s"
        assert connection.execute(query, (record["event_id"],)).fetchone() == (1, 1)


def chromium():
    """Debian's Chromium; installed where there is none and root may do so."""
    found = shutil.which("chromium")
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        )
        found = shutil.which("chromium") if done.returncode == 0 else None
    if not found:
        pytest.skip("needs Chromium: `apt-get install chromium`")
    return found


# --- by hand ----------------------------------------------------------------------------------


def kill_command(word, run):
    """Kill -9 a command of this run, if it is there."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if word in words and run in words:
            process.kill()
            return True
    return False


def change(stack, statement):
    with connect(stack.settings) as connection:
        connection.execute(statement)


def check_published(stack):
    """What is published is what silver has."""
    with connect(stack.settings, "crm_dbt") as connection:
        for entity in ENTITIES:
            assert stores.published_digest(connection, entity) == stores.silver_digest(stack.settings, entity)


def marks(stack):
    with connect(stack.settings, "crm_dbt") as connection:
        return connection.execute("select entity, version from ops.publish_marks order by 1").fetchall()


def mart(stack):
    with connect(stack.settings, "crm_dbt") as connection:
        return connection.execute("select a::text from marts.activity_by_day a order by 1").fetchall()


def as_admin(stack, statement):
    """Execute a statement as the server's owner; returns the first row of what it tells."""
    with psycopg.connect(admin_dsn(stack.settings), dbname="warehouse") as connection:
        done = connection.execute(statement)
        return done.fetchone() if done.description else None
