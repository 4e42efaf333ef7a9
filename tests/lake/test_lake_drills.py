"""The lake under fire: `make drill`. After each, silver is what was made, and the log says what happened."""

import json
import os
import random
import signal
import subprocess
import time
from datetime import date, timedelta

import polars as pl
import psutil
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from conftest import wait_for
from known import (
    all_landed,
    history_window,
    kill_family,
    landed,
    log_of,
    sent_units,
    silver,
    state_of,
)

from data_generator.configured import world_of
from data_generator.load.store import ProfileFile
from data_generator.sinks.kafka import KafkaSink
from data_generator.world.records import Shop
from data_platform_core.kafka import client_settings
from data_platform_core.layers import TOPICS, lease
from data_platform_core.ledger import stores
from data_platform_core.s3 import place_of, s3_client
from data_platform_core.settings import load_settings
from home_server.environment import process_environment
from home_server.places import env_bin

pytestmark = [pytest.mark.stack, pytest.mark.drill]

INSTANTS = [
    *(f"{place}:events" for place in ("before_silver", "before_quarantine", "before_bronze", "before_checkpoint")),
    *(f"{place}:orders" for place in ("before_silver", "before_bronze", "before_checkpoint")),
    *(f"{place}:profiles" for place in ("before_ends", "before_silver", "before_bronze", "before_checkpoint")),
]


def shop_day(settings, column):
    return pl.col(column).dt.convert_time_zone(settings.shop_time_zone).dt.date()


def stream_process(crm):
    return next(part["pid"] for part in crm.status()["components"] if part["name"] == "stream")


def test_killed_at_every_instant(crm, own_stack, tmp_path, capsys):
    """At each with a month's first day, which has all of it: refused messages, orders, profiles that end known ones.

    On a stack without a past: the main job sends all masters up to its day at once.
    """
    assert len(INSTANTS) >= 10
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps({"seed": 7, "faults": [{"kind": "truncated", "share": 0.02}]}))
    crm("up", "stream", "postgres")
    settings = load_settings()
    opened = settings.world_opened_on
    month = opened.year * 12 + opened.month  # the one after the opening, as `divmod` counts
    for number, instant in enumerate(INSTANTS, month):
        crm("down", "stream")
        day = f"{number // 12}-{number % 12 + 1:02}-01"
        crm("generate", "backfill", "--from", day, "--to", day, "--faults", str(plan))
        crm("up", "stream", env={"CRM_FAIL_POINT": instant})
        wait_for(lambda: state_of(crm, "stream") == "died", what=f"the death of the stream at {instant}")
        crm("up", "stream")
        all_landed(settings)
    with capsys.disabled():
        print(f"\nkilled at {', '.join(INSTANTS)}")


def test_killed_at_random(crm, settings):
    luck = random.Random(time.time_ns())
    generator = crm.start("generate", "live", "--tps", "200", "--for", "120s", "--json")
    for _ in range(5):
        time.sleep(luck.uniform(2, 15))
        kill_family(stream_process(crm))
        crm("up", "stream")
    generator.communicate(timeout=300)
    all_landed(settings)


@pytest.mark.parametrize("place", ["before_silver", "before_bronze", "before_checkpoint"])
def test_a_backfill_that_is_killed_is_whole_after_the_next_start(crm, settings, tmp_path, place):
    first, _ = history_window(settings)
    day = str(date.fromisoformat(first) - timedelta(days=1))
    crm("generate", "backfill", "--from", day, "--to", day, "--out", str(tmp_path), "--json")
    all_landed(settings)
    crm("down", "stream")
    crm("up", "stream", env={"CRM_FAIL_POINT": f"{place}:events"})
    asked = crm.start("backfill", "events", str(tmp_path / "events"))
    wait_for(lambda: state_of(crm, "stream") == "died", what=f"the death of the stream at {place}")
    crm("up", "stream")
    told = asked.communicate(timeout=300)
    assert asked.returncode == 0, told
    made_of_files = sum(1 for file in tmp_path.rglob("events/*.ndjson") for _ in file.open())
    there = silver(settings, "events").filter(shop_day(settings, "occurred_at") == date.fromisoformat(day))
    assert len(there) == there["event_id"].n_unique() == made_of_files > 100
    crm("generate", "backfill", "--from", day, "--to", day)  # by Kafka, too: nothing of it is new
    all_landed(settings)


@pytest.mark.parametrize("store", ["s3", "kafka"])
def test_a_store_that_is_away_for_half_a_minute_is_waited_for(crm, settings, store):
    name = settings.s3_store if store == "s3" else store
    if name == "kafka":
        crm("generate", "live", "--tps", "100", "--for", "3s")
        crm("down", "kafka")
        time.sleep(30)
        crm("up", "kafka")
        crm("generate", "live", "--tps", "100", "--for", "3s")
    else:
        generator = crm.start("generate", "live", "--tps", "100", "--for", "50s")
        time.sleep(5)
        crm("down", name)
        time.sleep(30)
        crm("up", name)
        generator.communicate(timeout=200)
    assert state_of(crm, "stream") == "running", log_of(settings)[-3000:]
    all_landed(settings)


def test_a_store_that_stays_away_ends_the_stream_with_its_name(crm, settings):
    crm("down", "stream")
    crm("up", "stream", env={"CRM_STREAM_GIVE_UP_SECONDS": "10"})
    crm("down", settings.s3_store)
    crm("generate", "live", "--tps", "50", "--for", "3s")
    wait_for(lambda: state_of(crm, "stream") == "died", 400, "the end of the stream")
    assert "was given up after" in log_of(settings)
    crm("up", settings.s3_store)
    crm("up", "stream")
    all_landed(settings)


def test_an_application_that_slept_while_another_took_over_writes_nothing(crm, settings):
    crm("generate", "live", "--tps", "50", "--for", "2s")
    all_landed(settings)
    first = psutil.Process(stream_process(crm))
    family = [first, *first.children(recursive=True)]
    for process in family:
        process.suspend()
    bucket, key = place_of(lease(settings.lake_root))
    s3_client(settings).delete_object(Bucket=bucket, Key=key)
    crm("generate", "live", "--tps", "50", "--for", "3s")
    env = process_environment(settings)
    env |= {"CRM_STREAM_METRICS_HOST": "127.0.0.2"}  # the sleeper has the port
    second = subprocess.Popen(
        [env_bin(settings, "spark", "python"), "-m", "spark_jobs.streaming"],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(lambda: landed(settings), 240, "the second application to land what was sent")
        for process in family:
            process.resume()
        crm("generate", "live", "--tps", "50", "--for", "3s")
        wait_for(lambda: state_of(crm, "stream") == "died", 120, "the end of the one that slept")
        assert "another streaming application has taken over the lake" in log_of(settings)
        all_landed(settings)
    finally:
        os.killpg(second.pid, signal.SIGTERM)
        second.wait(60)
    crm("up", "stream")
    all_landed(settings)


def test_messages_that_kafka_deleted_unread_are_named(crm, settings):
    crm("down", "stream")
    crm("generate", "live", "--tps", "50", "--for", "3s")
    ends = stores.kafka_ends(settings, "events")
    admin = AdminClient(client_settings(settings))
    gone = [TopicPartition(TOPICS["events"], partition, offset) for partition, offset in ends.items()]
    for future in admin.delete_records(gone).values():
        future.result(timeout=30)
    refused = crm("up", "stream", fails=True).stderr
    assert "Kafka has deleted messages of crm.events.v1 that were not read yet (partition" in refused
    assert "CRM_STREAM_ALLOW_DATA_LOSS" in refused
    shop = Shop(world_of(settings), ProfileFile(settings.ledger_file.with_name("load.jsonl")).read())
    sink = KafkaSink(client_settings(settings))
    for unit in [unit for unit in sent_units(settings) if unit.entity == "events"][-8:]:
        sink.put(unit, sink.prepare(unit, shop.records("events", unit.start, unit.end)))
    sink.flush()
    crm("up", "stream", env={"CRM_STREAM_ALLOW_DATA_LOSS": "true"})
    all_landed(settings)
    assert "going on without them" in log_of(settings)


def test_malformed_and_skewed_records_in_number(crm, settings, tmp_path):
    plan = tmp_path / "plan.yaml"
    faults = [
        {"kind": "truncated", "share": 0.05},
        {"kind": "clock_skew", "share": 0.2, "max_seconds": 3600},
        {"kind": "future_dated", "share": 0.05},
    ]
    plan.write_text(str({"seed": 11, "faults": faults}).replace("'", '"'))
    crm("generate", "live", "--tps", "200", "--for", "20s", "--faults", str(plan))
    all_landed(settings)
