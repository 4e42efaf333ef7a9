"""The stream on real components: what was made is what arrives, whatever happens on the way.

The tests of this folder share one stack and run in the order of their files and names: each leaves it whole for the next.
"""

import json
from collections import Counter

import polars as pl
import psutil
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from conftest import wait_for
from known import (
    check_quarantine,
    check_silver,
    history_window,
    kill_family,
    landed,
    quarantine,
    refusals_told,
    send_ten_malformed,
    sent_units,
    state_of,
    version_of,
)

from data_generator.configured import world_of
from data_generator.sinks.files import file_sink
from data_generator.sinks.kafka import KafkaSink
from data_generator.world.config import HOUR
from data_generator.world.records import Shop
from data_platform_core.contracts import ENTITIES, GENERATED
from data_platform_core.errors import ComponentFailed
from data_platform_core.kafka import client_settings
from data_platform_core.layers import TOPICS, lake_table
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.s3 import place_of, s3_client

pytestmark = pytest.mark.stack


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


def test_a_topic_that_does_not_exist_is_named(settings, monkeypatch):
    monkeypatch.setitem(TOPICS, "events", "crm.nothing.v1")
    with pytest.raises(ComponentFailed, match=r"has no topic crm\.nothing\.v1"):
        KafkaSink(client_settings(settings))


def test_nothing_is_lost_or_doubled_when_the_stream_dies_between_two_commits_and_again_with_all_committed(
    crm, settings
):
    """The other instants, one by one: `test_lake_drills`."""
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
    crm("up", "stream", env={"CRM_FAIL_POINT": "before_checkpoint:events"})
    wait_for(lambda: state_of(crm, "stream") == "died", what="its death with all of the same batch committed")
    assert version_of(settings, "bronze", "events") == bronze + 1
    for layer, entity in (("silver", "events"), ("bronze", "events"), ("silver", "orders"), ("bronze", "profiles")):
        without_checksum(settings, layer, entity)
    crm("up", "stream")
    wait_for(lambda: landed(settings), what="what was sent to land")
    assert version_of(settings, "silver", "events") == silver + 1, "the batch was written into silver twice"
    check_silver(settings)
    check_quarantine(settings, bad)
    for entity in ENTITIES:
        rows = pl.from_arrow(stores.open_table(settings, "bronze", entity).to_pyarrow_table())
        assert not rows.select("kafka_topic", "kafka_partition", "kafka_offset").is_duplicated().any()


def without_checksum(settings, layer, entity):
    """As a death between a version and its checksum leaves a table, or whoever writes none."""
    bucket, table = place_of(lake_table(settings.lake_root, layer, entity))
    key = f"{table}/_delta_log/{version_of(settings, layer, entity):020}.crc"
    client = s3_client(settings)
    client.head_object(Bucket=bucket, Key=key)
    client.delete_object(Bucket=bucket, Key=key)


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
