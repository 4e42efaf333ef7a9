"""Repeats within a batch become one row; versions of an owner follow each other."""

from datetime import datetime

from data_platform_core.contracts import CONTRACTS
from spark_jobs.transforms.settle import first_of_each_key, with_validity


def test_the_first_of_a_key_stays_whatever_the_order_of_rows(spark):
    columns = "event_id string, note string, place bigint"
    rows = [("a", "repeat", 9), ("a", "first", 3), ("b", "only", 7), (None, "null key", 1)]
    settled = first_of_each_key(spark.createDataFrame(rows, columns), CONTRACTS["events"]).collect()
    assert {(row.event_id, row.note) for row in settled} == {("a", "first"), ("b", "only"), (None, "null key")}


def test_versions_of_one_owner_are_different_rows(spark):
    columns = "customer_id string, sequence bigint, place bigint"
    rows = [("c", 1, 0), ("c", 2, 1), ("c", 1, 2)]
    settled = first_of_each_key(spark.createDataFrame(rows, columns), CONTRACTS["profiles"]).collect()
    assert sorted((row.sequence, row.place) for row in settled) == [(1, 0), (2, 1)]


def test_versions_are_valid_until_the_next_whatever_the_order_of_arrival(spark):
    columns = "customer_id string, sequence bigint, effective_at timestamp"
    day = [datetime(2026, 11, n) for n in (1, 2, 3)]
    rows = [("c", 2, day[2]), ("c", 0, day[0]), ("d", 0, day[1]), ("c", 1, day[1])]
    versions = with_validity(spark.createDataFrame(rows, columns), "customer_id").orderBy("customer_id", "sequence")
    found = [(row.customer_id, row.valid_from, row.valid_to) for row in versions.collect()]
    assert found == [("c", day[0], day[1]), ("c", day[1], day[2]), ("c", day[2], None), ("d", day[1], None)]
