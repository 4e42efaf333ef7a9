"""The way of the data on real components: what was made is what arrives, whatever happens on the way.

The tests share one stack and run in their order: each leaves it whole for the next.
"""

import json
import os
import random
import signal
import stat
import subprocess
import time
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

import polars as pl
import psutil
import psycopg
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer
from conftest import ROOT, wait_for
from deltalake import DeltaTable

from data_generator.cli import world_of
from data_generator.faults.inject import Injector
from data_generator.load.store import ProfileFile
from data_generator.sinks.files import file_sink
from data_generator.sinks.kafka import KafkaSink
from data_generator.world.config import HOUR
from data_generator.world.records import Shop
from data_platform_core.contracts import CONTRACTS, ENTITIES
from data_platform_core.errors import ComponentFailed
from data_platform_core.kafka import client_settings
from data_platform_core.layers import TOPICS, lake_table
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from home_server.airflow_api import AirflowApi
from home_server.demo import DAG, has_landed

pytestmark = pytest.mark.stack


# --- the main job -----------------------------------------------------------------------------


def test_demo_lands_what_it_made_and_shows_it(demo):
    for word in ("made", "Kafka", "bronze", "silver", "published", "warehouse", "marts", "revenue_by_segment_and_day"):
        assert word in demo
    for entity in ENTITIES:
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
    assert {file.split("/")[2] for file in files} == set(ENTITIES)
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
        dsn = stores.warehouse_dsn(settings, role)
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
        with stores.connect(settings, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
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
    crm("up", "stream", env={"CRM_FAIL_POINT": "before_silver:events"})
    wait_for(lambda: state_of(crm, "stream") == "died", what="the death of the stream at its fail-point")
    assert version_of(settings, "bronze", "events") == bronze + 1, "bronze was not committed before the stream died"
    assert version_of(settings, "silver", "events") == silver, "silver was committed although the stream died before"
    died = crm("status", fails=True)
    assert "stream died" in died.stderr
    crm("up", "stream")
    wait_for(lambda: landed(settings), what="what was sent to land")
    assert version_of(settings, "bronze", "events") == bronze + 1, "the batch was written into bronze twice"
    check_silver(settings)
    check_quarantine(settings, bad)


def test_nothing_is_lost_or_doubled_when_the_stream_is_killed_at_random(crm, settings):
    instants = random.Random(time.time_ns())
    generator = crm.start("generate", "live", "--tps", "60", "--for", "40s", "--json")
    for _ in range(2):
        pause = instants.uniform(3.0, 9.0)
        print(f"killed {pause:.2f} s after its start")
        time.sleep(pause)
        stream = next(part["pid"] for part in crm.status()["components"] if part["name"] == "stream")
        kill_family(stream)
        crm("up", "stream")
    out, err = generator.communicate(timeout=120)
    assert generator.returncode == 0, err
    assert json.loads(out)["records"] > 2000
    wait_for(lambda: landed(settings), what="what was sent to land")
    check_silver(settings)


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
    faults = [{"kind": kind, "share": 0.02} for kind in (*kinds, "duplicated", "reordered", "late")]
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps({"seed": 3, "faults": faults}))  # YAML holds JSON
    before = {entity: Counter(quarantine(settings, entity)["reason"]) for entity in ENTITIES}
    crm("generate", "live", "--tps", "60", "--for", "10s", "--faults", str(plan))
    wait_for(lambda: landed(settings), what="what was sent to land")
    check_silver(settings)
    told = [json.loads(line) for line in (settings.ledger_file.parent / "faults.jsonl").read_text().splitlines()]
    assert {fault["fault"] for fault in told if fault["topic"] == TOPICS["events"]} == {
        fault["kind"] for fault in faults
    }
    for entity in ENTITIES:
        refused = Counter(quarantine(settings, entity)["reason"])
        refused.subtract(before[entity])
        expected = Counter(f["expected"].removeprefix("quarantine: ") for f in told if f["topic"] == TOPICS[entity])
        del expected["silver"]
        assert +refused == expected, entity


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
    minio = next(part["pid"] for part in crm.status()["components"] if part["name"] == "minio")
    kill_family(minio)
    assert "minio died" in crm("status", fails=True).stderr
    crm("up", "minio")
    assert state_of(crm, "minio") == "running"
    crm("up", "stream")


# --- Airflow, gate and marts ------------------------------------------------------------------


def test_a_triggered_run_brings_exact_sums_into_the_marts(settings):
    wait_for(lambda: landed(settings), what="what was sent to land")
    airflow = AirflowApi(settings)
    run = airflow.trigger(DAG, {"full_refresh": False})
    assert airflow.wait_for_run(DAG, run) == "success", [(t["task_id"], t["state"]) for t in airflow.tasks(DAG, run)]
    assert revenue_in_marts(settings) == revenue_made(settings)
    with stores.connect(settings, "crm_dbt") as connection:
        for entity, contract in CONTRACTS.items():
            key = ", ".join(contract.key)
            published = set(connection.execute(f"select {key} from lake.{entity}").fetchall())
            assert published == set(made(settings, entity).select(contract.key).rows())
            assert stores.published_digest(connection, entity) == Ledger(settings.ledger_file).made(entity)
            assert stores.warehouse_count(connection, entity) == stores.mart_count(connection, entity) == len(published)


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
    with stores.connect(settings) as connection:
        order, event, total = connection.execute(
            "select order_id, order_event_id, total_minor from lake.orders order by order_event_id limit 1"
        ).fetchone()
        connection.execute("update lake.orders set total_minor = -5 where order_event_id = %s", (event,))
    run = airflow.trigger(DAG, {"full_refresh": True})
    assert airflow.wait_for_run(DAG, run) == "failed"
    states = {task["task_id"]: task["state"] for task in airflow.tasks(DAG, run)}
    assert (states["publish"], states["gate"], states["model"]) == ("success", "failed", "upstream_failed")
    log = airflow.log(DAG, run, "gate", 1)
    assert "expect_column_values_to_be_between on lake.orders.total_minor: 1 rows" in log
    assert f"{order}/{event}" in log
    assert revenue_in_marts(settings) == marts
    with stores.connect(settings) as connection:
        connection.execute("update lake.orders set total_minor = %s where order_event_id = %s", (total, event))
    run = airflow.trigger(DAG)
    assert airflow.wait_for_run(DAG, run) == "success"
    assert revenue_in_marts(settings) == revenue_made(settings)


def test_a_second_demo_starts_warm_and_agrees(crm, settings):
    told = crm("demo", "--live", "5").stdout
    (history,) = [line for line in told.splitlines() if "✓ history" in line]
    assert "there" in history
    # ten malformed messages were sent: Kafka and bronze hold them, quarantine accounts for them
    verdicts = [line.split()[-1] for line in told.splitlines() if line.split()[:1] and line.split()[0] in ENTITIES]
    assert verdicts == ["yes"] * len(ENTITIES)


def test_a_row_deleted_from_silver_by_hand_is_noticed(crm, settings):
    crm("down", "stream")
    key = made(settings, "orders")["order_event_id"][0]
    address = lake_table(settings.lake_root, "silver", "orders").replace("s3a://", "s3://")
    table = DeltaTable(address, storage_options=stores.s3_options(settings))
    deleted = table.delete(f"order_event_id = '{key}'")
    assert deleted["num_deleted_rows"] == 1
    assert "silver has" in crm("audit", fails=True).stderr
    refused = crm("demo", "--live", "2", fails=True)
    assert refused.returncode == 1
    assert "the stores disagree" in refused.stderr


# --- what the tests know ----------------------------------------------------------------------


def history_window(settings):
    """The days of history that were made, as the ledger has them: the midnight of a test run does not matter."""
    world = world_of(settings)
    days = [u.start for u in sent_units(settings) if u.entity == "events" and u.end - u.start > HOUR]
    return str(world.day_of(min(days))), str(world.day_of(max(days)))


def sent_units(settings):
    """Every unit that was sent, with the words that make it again."""
    ledger = Ledger(settings.ledger_file)
    sent = ledger.sent_units()
    return [unit for unit in ledger.begun_units() if unit.id in sent]


def made(settings, entity):
    """Every record made of an entity, made again from the ledger's words."""
    shop = Shop(world_of(settings), ProfileFile(settings.ledger_file.with_name("load.jsonl")).read())
    units = sorted((unit for unit in sent_units(settings) if unit.entity == entity), key=lambda unit: unit.start)

    def kept(unit):
        records = shop.records(entity, unit.start, unit.end)
        if not unit.faults:
            return records
        return Injector.kept(settings.ledger_file.parent, unit.faults).expected(unit, records)

    return pl.concat(kept(unit) for unit in units)


def quarantine(settings, entity):
    return pl.from_arrow(stores.open_table(settings, "quarantine", entity).to_pyarrow_table())


def silver(settings, entity):
    return pl.from_arrow(stores.open_table(settings, "silver", entity).to_pyarrow_table())


def check_silver(settings):
    """Silver holds each record made, once, and nothing else."""
    for entity, contract in CONTRACTS.items():
        names = list(contract.model_fields)
        held, expected = silver(settings, entity).select(names), made(settings, entity).select(names)
        assert sorted(held.select(contract.key).rows()) == sorted(expected.select(contract.key).rows()), entity
        assert stores.silver_digest(settings, entity) == Ledger(settings.ledger_file).made(entity)


MALFORMED = {
    b"": "empty",
    b"\xff\xfe\x00": "not_utf8",
    b'{"schema_version": 1, "event_id": "3be1ec85': "not_json",
    b"[]": "not_an_object",
    b"{}": "missing_field:schema_version",
    b'"text"': "not_an_object",
}


def send_ten_malformed(settings):
    """Ten records that break the contract of events, each in its own way; returns value → reason."""
    good = json.loads((ROOT / "data-platform-core/tests/contracts/events.1.minimal.pass.json").read_text())
    broken = {
        json.dumps(good | {"event_type": "teleport"}).encode(): "unknown_value:event_type",
        json.dumps(good | {"sequence": -1}).encode(): "out_of_range:sequence",
        json.dumps(good | {"colour": "red"}).encode(): "unknown_field:colour",
        json.dumps(good | {"occurred_at": "2026-11-18"}).encode(): "not_an_instant:occurred_at",
    }
    producer = Producer({"bootstrap.servers": settings.kafka_address})
    for value in MALFORMED | broken:
        producer.produce(TOPICS["events"], value, key=b"somebody")
    assert producer.flush(30) == 0
    assert len(MALFORMED | broken) == 10
    return MALFORMED | broken


def check_quarantine(settings, expected):
    """Quarantine holds the malformed messages, byte by byte, each once, with its reason."""
    kept = quarantine(settings, "events")
    assert sorted(zip(kept["value"], kept["reason"], strict=True)) == sorted(expected.items())
    assert kept.select("kafka_partition", "kafka_offset").is_duplicated().sum() == 0


def landed(settings):
    return all(has_landed(settings, entity) for entity in ENTITIES)


def version_of(settings, layer, entity):
    return stores.open_table(settings, layer, entity).version()


def state_of(crm, name):
    return next(part["state"] for part in crm.status()["components"] if part["name"] == name)


def kill_family(pid):
    """kill -9 a component and all its children at once."""
    process = psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        os.kill(each.pid, signal.SIGKILL)
    psutil.wait_procs([process], timeout=10)


def revenue_made(settings):
    """Revenue by the shop's day and segment, from the records made, without any SQL."""
    orders = made(settings, "orders").sort("sequence")
    profiles = made(settings, "profiles").sort("sequence")
    versions = defaultdict(list)
    for profile in profiles.iter_rows(named=True):
        versions[profile["customer_id"]].append((profile["occurred_at"], profile["segment"]))
    newest = {order["order_id"]: order for order in orders.iter_rows(named=True)}
    revenue = defaultdict(lambda: [0, 0, 0])
    local = (
        pl.Series([o["ordered_at"] for o in newest.values()]).dt.convert_time_zone(settings.shop_time_zone).dt.date()
    )
    for order, day in zip(newest.values(), local, strict=True):
        known = [segment for since, segment in versions[order["customer_id"]] if since <= order["ordered_at"]]
        row = revenue[(day, known[-1] if known else "unknown")]
        row[0] += 1
        row[1] += order["total_minor"]
        row[2] += order["total_minor"] if order["status"] != "paid" else 0
    return {key: tuple(row) for key, row in revenue.items()}


def revenue_in_marts(settings):
    query = "select ordered_date, segment, order_count, gross_revenue_minor, returned_minor from marts.revenue_by_segment_and_day"
    with stores.connect(settings, "crm_dbt") as connection:
        return {(day, segment): tuple(rest) for day, segment, *rest in connection.execute(query)}


def publish_state(settings):
    """All that a cleared run must leave as it is."""
    with stores.connect(settings) as connection:
        runs = connection.execute(
            "select run_id, entity, from_version, to_version, published_batch from ops.publish_runs order by 1, 2"
        ).fetchall()
        counts = [
            connection.execute(f"select count(*), max(published_batch) from lake.{e}").fetchone() for e in ENTITIES
        ]
    return runs, counts, revenue_in_marts(settings)
