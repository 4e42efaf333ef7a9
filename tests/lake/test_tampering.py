"""The audit notices what was not done by the platform; these tests come last, since they leave the stores apart."""

import json

import polars as pl
import pytest
from confluent_kafka import Producer
from conftest import ROOT, wait_for
from deltalake import DeltaTable, write_deltalake
from known import landed, silver, state_of

from data_platform_core.layers import TOPICS, lake_table
from data_platform_core.s3 import s3_options

pytestmark = pytest.mark.stack


def test_events_of_the_first_and_of_the_last_year_do_not_stop_the_others(crm, settings):
    good = json.loads((ROOT / "data-platform-core/tests/contracts/events.1.minimal.pass.json").read_text())
    producer = Producer({"bootstrap.servers": settings.kafka_address})
    odd = {f"{number:032x}": f"{year}-12-31T23:59:59.999999Z" for number, year in enumerate(("0001", "9999"))}
    for name, at in odd.items():
        producer.produce(TOPICS["events"], json.dumps(good | {"event_id": name, "occurred_at": at}), key=b"somebody")
    assert producer.flush(30) == 0
    wait_for(lambda: landed(settings), what="the odd ones to land")
    crm("down", "stream")  # what it remembers is learnt anew, from files that hold them
    crm("up", "stream")
    crm("generate", "live", "--tps", "40", "--for", "2s")
    wait_for(lambda: landed(settings), what="those after them to land")
    assert state_of(crm, "stream") == "running"
    held = silver(settings, "events").filter(pl.col("event_id").is_in(list(odd)))
    assert dict(held.select("event_id", "is_future_dated").rows()) == dict(zip(odd, (False, True), strict=True))
    assert sorted(held["occurred_at"].dt.year()) == [1, 9999]


def test_a_row_that_somebody_else_wrote_into_silver_closes_the_gate_until_it_is_gone(crm, settings):
    """The way back to green that the runbook tells."""
    crm("down", "stream")
    address = lake_table(settings.lake_root, "silver", "events").replace("s3a://", "s3://")
    foreign = silver(settings, "events").head(1).with_columns(
        event_id=pl.lit("f" * 32), visitor_id=pl.col("visitor_id") + "\n"
    )  # fmt: skip
    write_deltalake(address, foreign.to_arrow(), mode="append", storage_options=s3_options(settings))
    closed = crm("gate", "--layer", "silver", "--run", "foreign", fails=True).stderr
    assert "silver of events.visitor_id: 1 rows" in closed and "f" * 32 in closed
    DeltaTable(address, storage_options=s3_options(settings)).delete(f"event_id = '{'f' * 32}'")
    crm("gate", "--layer", "silver", "--run", "mended")


def test_a_row_deleted_from_silver_by_hand_is_noticed(crm, settings):
    delete_an_event(crm, settings)
    assert "silver has" in crm("audit", fails=True).stderr


@pytest.mark.drill
def test_a_demo_of_stores_that_disagree_fails(crm, settings):
    delete_an_event(crm, settings)
    refused = crm("demo", "--live", "2", fails=True)
    assert refused.returncode == 1
    assert "the stores disagree" in refused.stderr


def delete_an_event(crm, settings):
    crm("down", "stream")
    # what was made may be a forgotten customer's; no model's test misses an event, as one would an order's first
    key = silver(settings, "events")["event_id"][0]
    address = lake_table(settings.lake_root, "silver", "events").replace("s3a://", "s3://")
    table = DeltaTable(address, storage_options=s3_options(settings))
    deleted = table.delete(f"event_id = '{key}'")
    assert deleted["num_deleted_rows"] == 1
