"""Increments against a full refresh after corrections that a seed draws, published and built in parts. `make drill`."""

import random

import polars as pl
import pytest
from own_warehouse import days

from data_platform_core.contracts import GENERATED
from data_platform_core.settings import load_settings

pytestmark = [pytest.mark.stack, pytest.mark.drill]

SEEDS = range(3)
ROUNDS = 8
OTHER_DAY = "{0} + interval '{days}' day"
CORRECTIONS = (  # of which entity, the rows of which key; and what is written into them, or None where they go
    ("events", ["event_id"], None),
    ("events", ["event_id"], {"session_id": "'{session_id}'"}),
    ("events", ["event_id"], {"customer_id": "'{customer_id}'"}),
    ("events", ["event_id"], {"occurred_at": OTHER_DAY}),
    ("events", ["customer_id"], None),
    ("orders", ["order_event_id"], None),
    ("orders", ["order_event_id"], {"status": "'refunded'", "sequence": "sequence + 10"}),
    ("orders", ["order_id"], {"ordered_at": OTHER_DAY}),
    ("orders", ["order_id"], {"customer_id": "'{customer_id}'"}),
    ("profiles", ["customer_id", "sequence"], None),
    ("profiles", ["customer_id"], None),
    ("profiles", ["customer_id"], {"segment": "'premium'"}),
    ("profiles", ["customer_id"], {"occurred_at": OTHER_DAY, "effective_at": OTHER_DAY}),
    ("products", ["product_id", "sequence"], None),
    ("products", ["product_id"], {"category_path": "'other/thing'"}),
    ("products", ["product_id", "sequence"], {"restocked_at": OTHER_DAY, "effective_at": OTHER_DAY}),
)
BUILDS = (
    ["run"],
    ["run", "--exclude", "marts"],
    ["run", "--select", "fct_sessions", "fct_orders", "fct_order_lines"],
    ["run", "--select", "dim_customer", "fct_events", "fct_order_status"],
    ["run", "--select", "dim_product+"],
    ["run", "--full-refresh", "--select", "dim_customer", "fct_sessions"],
    [],
)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_corrections_are_a_full_refresh(warehouse, seed):
    draw = random.Random(seed)
    first, *later = days(load_settings())
    to_come = {entity: pl.concat(day[entity] for day in later).sample(fraction=1, shuffle=True, seed=seed)
               for entity in GENERATED}  # fmt: skip
    for entity, records in first.items():
        warehouse.append(entity, records)
    warehouse.publish("first")
    warehouse.dbt("run")
    done = []
    for number in range(ROUNDS):
        for entity, records in to_come.items():
            count = draw.randint(0, len(records) // 2)
            warehouse.append(entity, records.head(count))
            to_come[entity] = records.slice(count)
        done += [correct(warehouse, draw) for _ in range(draw.randint(1, 4))]
        entities = draw.sample(GENERATED, draw.randint(1, len(GENERATED)))
        whole, words = draw.random() < 0.15, draw.choice(BUILDS)
        done.append(f"published {entities}{' whole' * whole}, dbt {words}")
        warehouse.publish(f"round-{number}", whole, entities)
        if words:
            warehouse.dbt(*words)
    warehouse.publish("last")
    warehouse.dbt("run")
    by_increments = warehouse.models()
    warehouse.dbt("run", "--full-refresh")
    other = [name for name, rows in warehouse.models().items() if rows != by_increments[name]]
    assert not other, "\n".join(done)


def correct(warehouse, draw):
    """Write other values into a few rows of silver, or take them out; returns what was done."""
    entity, key, changes = draw.choice(CORRECTIONS)
    rows = warehouse.held(entity, key)
    chosen = [rows[draw.randrange(len(rows))] for _ in range(2)] if rows else []
    drawn = {"days": draw.choice([-40, -3, 2, 20, 90])}
    for owner, name in (("events", "session_id"), ("profiles", "customer_id")):
        drawn[name] = draw.choice(warehouse.held(owner, [name]) or [("nobody",)])[0]
    for row in chosen:
        predicate = " and ".join(f"{name} = {value!r}" for name, value in zip(key, row, strict=True))
        if changes is None:
            warehouse.delete(entity, predicate)
        else:
            texts = {name: text.format(name, **drawn) for name, text in changes.items()}
            warehouse.silver(entity).update(texts, predicate=predicate)
    return f"{entity} {chosen}: {changes} {drawn}"
