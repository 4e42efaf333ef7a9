"""Longer tests of the way of the data, on a stack of their own: `make drill`."""

import json

import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition
from conftest import wait_for

from data_generator.configured import world_of
from data_generator.load.store import ProfileFile
from data_platform_core.kafka import client_settings
from data_platform_core.layers import TOPICS
from data_platform_core.ledger import stores
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import load_settings
from home_server.demo import has_landed

pytestmark = [pytest.mark.stack, pytest.mark.drill]

LEAD, RAMP, HOLD = 10, 10, 60


@pytest.fixture(scope="module")
def settings(demo):
    return load_settings()


@pytest.mark.parametrize("peak", [3000, 5000])
def test_a_spike_arrives_as_planned_beside_the_whole_stack(crm, settings, peak, capsys):
    shape = {"from-tps": 50, "to-tps": peak, "lead": f"{LEAD}s", "ramp": f"{RAMP}s", "hold": f"{HOLD}s"}
    words = [word for name, value in shape.items() for word in (f"--{name}", str(value))]
    run = json.loads(crm("generate", "spike", *words, "--json").stdout)
    first, seconds = run["started_at"], LEAD + RAMP + HOLD
    assert run["seconds"] == seconds
    plan = ProfileFile(settings.ledger_file.with_name("load.jsonl")).read()
    planned = plan.rate(world_of(settings), first, first + seconds)
    assert planned[:LEAD].tolist() == [50] * LEAD and planned[-HOLD:].tolist() == [peak] * HOLD

    # the records of a second are sent as it ends, and arrive within the next one
    arrived = arrivals(settings, first + 1, seconds)
    ratios = arrived[-HOLD:] / peak
    tens = np.convolve(ratios, np.ones(10), "valid") / 10
    with capsys.disabled():
        print(
            f"\n{peak}/s: any 10 s {tens.min():.3f} … {tens.max():.3f} of the plan, "
            f"{(np.abs(ratios - 1) <= 0.05).mean():.0%} of the seconds within 5%"
        )
    assert np.abs(tens - 1).max() <= 0.02
    assert (np.abs(ratios - 1) <= 0.05).mean() >= 0.95

    wait_for(lambda: all(has_landed(settings, entity) for entity in TOPICS), 600, "the spike to land")
    for entity in TOPICS:
        assert stores.silver_digest(settings, entity) == Ledger(settings.ledger_file).made(entity)


def arrivals(settings, first, seconds):
    """How many events and orders the broker took in each second, by its own clock and offsets."""
    consumer = Consumer(client_settings(settings) | {"group.id": "drill"})
    counts = np.zeros(seconds + 1)
    for entity in ("events", "orders"):
        topic = TOPICS[entity]
        ends = stores.kafka_ends(settings, entity)
        for n in range(seconds + 1):
            at = [TopicPartition(topic, partition, (first + n) * 1000) for partition in ends]
            found = consumer.offsets_for_times(at, timeout=10)
            counts[n] += sum(p.offset if p.offset >= 0 else ends[p.partition] for p in found)
    consumer.close()
    return np.diff(counts)
