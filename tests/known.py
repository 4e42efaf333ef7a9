"""What the tests know of the world, and how they ask the stack for it."""

import json
import os
import signal
from collections import Counter, defaultdict

import polars as pl
import psutil
from confluent_kafka import Producer
from conftest import ROOT, wait_for

from data_generator.configured import world_of
from data_generator.faults.inject import Injector
from data_generator.load.store import ProfileFile
from data_generator.world.config import HOUR
from data_generator.world.records import Shop
from data_platform_core.contracts import CONTRACTS, ENTITIES, GENERATED
from data_platform_core.layers import TOPICS
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.warehouse import connect
from home_server.demo import has_landed


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
    for entity in GENERATED:
        contract = CONTRACTS[entity]
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


def refusals_told(settings, entity):
    """How often each reason is to stand in quarantine, by what the generator tells of its faults."""
    lines = (settings.ledger_file.parent / "faults.jsonl").read_text().splitlines()
    told = [fault["expected"] for fault in map(json.loads, lines) if fault["topic"] == TOPICS[entity]]
    return Counter(words.removeprefix("quarantine: ") for words in told if words != "silver")


def landed(settings):
    return all(has_landed(settings, entity) for entity in ENTITIES)


def all_landed(settings, within_seconds=240):
    """Silver is what was made, and quarantine what is told of its faults."""
    wait_for(lambda: landed(settings), within_seconds, "what was sent to land")
    check_silver(settings)
    if (settings.ledger_file.parent / "faults.jsonl").exists():
        for entity in ENTITIES:
            assert Counter(quarantine(settings, entity)["reason"]) == refusals_told(settings, entity)


def log_of(settings):
    """What the stream has logged."""
    return (settings.stack_dir / "logs" / "stream.log").read_text(errors="replace")


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
    with connect(settings, "crm_dbt") as connection:
        return {(day, segment): tuple(rest) for day, segment, *rest in connection.execute(query)}


def publish_state(settings):
    """All that a cleared run must leave as it is."""
    with connect(settings) as connection:
        runs = connection.execute(
            "select run_id, entity, from_version, to_version, published_batch from ops.publish_runs order by 1, 2"
        ).fetchall()
        counts = [
            connection.execute(f"select count(*), max(published_batch) from lake.{e}").fetchone() for e in ENTITIES
        ]
    return runs, counts, revenue_in_marts(settings)
