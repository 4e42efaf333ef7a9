"""Repeats are noticed by remembered keys, within a bounded memory."""

import numpy as np

from spark_jobs.streaming.remembered import STRETCH_MICROSECONDS, Keys, Remembered, ranges_of, repeats_within


def keys(*rows):
    hashes, checks, stretches = zip(*rows, strict=True)
    occurred = np.array(stretches, np.int64) * STRETCH_MICROSECONDS
    return Keys(np.array(hashes, np.int64), np.array(checks, np.int64), occurred)


def test_a_key_that_silver_holds_is_noticed_and_another_of_the_same_hash_is_not():
    memory = Remembered(100)
    memory.learn([(7, 8)], [7, 8], keys((11, 1, 7), (-5, 2, 7), (3, 3, 8)))
    asked = keys((11, 1, 7), (-5, 9, 7), (3, 3, 8), (4, 4, 8))
    assert memory.are_held(asked).tolist() == [True, False, True, False]
    memory.add(asked)
    assert memory.are_held(asked).all()


def test_a_stretch_that_was_never_learnt_is_named_before_it_is_asked_about():
    memory = Remembered(100)
    memory.learn([(7, 7)], [7], keys((1, 1, 7)))
    assert memory.unknown(keys((1, 1, 7), (1, 1, 9), (1, 1, 8))) == [8, 9]
    memory.add(keys((2, 2, 9)))
    assert memory.unknown(keys((2, 2, 9))) == [9]


def test_a_stretch_of_which_silver_never_held_anything_is_known_to_be_empty():
    memory = Remembered(2)
    memory.begin([(5 * STRETCH_MICROSECONDS, 6 * STRETCH_MICROSECONDS - 1)])
    assert memory.unknown(keys((1, 1, 4), (2, 2, 5), (3, 3, 6))) == [5]
    memory.learn([(5, 5)], [5], keys((9, 9, 5)))
    memory.add(keys((1, 1, 4), (3, 3, 6)))
    memory.trim()  # what was added since is learnt again, once it was let go
    assert memory.unknown(keys((1, 1, 4))) == [4]
    memory.forget()
    assert not memory.has_begun and memory.unknown(keys((1, 1, 100))) == [100]


def test_what_was_read_between_two_stretches_is_remembered_too_and_nothing_twice():
    memory = Remembered(100)
    memory.learn([(8, 8)], [8], keys((1, 1, 8)))
    memory.learn([(7, 9)], [7, 9], keys((1, 1, 8), (2, 2, 9)))
    assert (memory.count, memory.unknown(keys((5, 5, 7), (1, 1, 8), (2, 2, 9)))) == (2, [])
    memory.learn([(100, 100_000)], [100, 100_000], keys((3, 3, 500)))  # years of nothing are not kept
    assert memory.unknown(keys((3, 3, 500), (3, 3, 100))) == [500]


def test_memory_is_bounded_by_the_stretches_asked_about_longest_ago():
    memory = Remembered(3)
    for stretch in range(5):
        memory.learn([(stretch, stretch)], [stretch], keys((stretch, 0, stretch), (stretch + 100, 0, stretch)))
        memory.trim()
    assert memory.count <= 3
    assert memory.unknown(keys((4, 0, 4))) == []
    assert memory.unknown(keys((0, 0, 0))) == [0]


def test_repeats_within_a_batch_are_those_after_the_first():
    found = repeats_within(keys((1, 1, 0), (2, 1, 0), (1, 1, 0), (1, 2, 0), (1, 1, 0)))
    assert found.tolist() == [False, False, True, False, True]


def test_many_stretches_are_read_as_few_ranges():
    assert ranges_of([1, 2, 3, 9, 10]) == [(1, 3), (9, 10)]
    scattered = list(range(0, 1000, 10))
    ranges = ranges_of(scattered, at_most=5)
    assert len(ranges) == 5 and ranges[0][0] == 0 and ranges[-1][1] == 990
    assert ranges_of([]) == []
