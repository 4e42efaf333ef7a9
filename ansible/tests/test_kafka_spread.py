"""Which broker holds which replica: the pure part of kafka_reassign."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

_FILE = Path(__file__).parents[1] / "roles/kafka/module_utils/kafka_spread.py"
_SPEC = importlib.util.spec_from_file_location("kafka_spread", _FILE)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
spread = _MODULE.spread

RACKS = {1: "a", 2: "b", 3: "c"}


def test_what_is_even_stays_as_it_is():
    current = {0: [1, 2, 3], 1: [2, 3, 1], 2: [3, 1, 2]}
    assert spread(current, RACKS, 3) == current


def test_a_new_broker_takes_its_share_and_no_more_is_moved():
    current = {number: [1, 2, 3][number % 3 :] + [1, 2, 3][: number % 3] for number in range(12)}
    target = spread(current, RACKS | {4: "d"}, 3)
    assert set(Counter(b for replicas in target.values() for b in replicas).values()) == {9}
    moved = sum(len(set(target[p]) - set(current[p])) for p in current)
    assert moved == 9
    assert set(Counter(replicas[0] for replicas in target.values()).values()) == {3}


def test_replicas_of_a_partition_stand_in_different_racks():
    racks = {1: "a", 2: "a", 3: "b", 4: "c"}
    target = spread({number: [1, 3] for number in range(8)}, racks, 3)
    assert all({racks[broker] for broker in replicas} == {"a", "b", "c"} for replicas in target.values())


def test_a_drained_broker_holds_nothing():
    target = spread({number: [4, 1, 2] for number in range(6)}, RACKS, 3)
    assert all(sorted(replicas) == [1, 2, 3] for replicas in target.values())


def test_too_few_brokers_are_named():
    with pytest.raises(ValueError, match="3 replicas need as many brokers, and there are 2"):
        spread({0: [1, 2, 3]}, {1: "a", 2: "b"}, 3)


def test_two_brokers_of_one_rack_share_that_racks_replica():
    current = {number: [1, 2, 3] for number in range(12)}
    target = spread(current, RACKS | {4: "a"}, 3)
    assert Counter(b for replicas in target.values() for b in replicas) == {1: 6, 4: 6, 2: 12, 3: 12}
