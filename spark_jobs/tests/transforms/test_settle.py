"""Repeats within a batch become one row: the one that Kafka had first."""

from data_platform_core.contracts import CONTRACTS
from spark_jobs.transforms.settle import first_of_each_key


def test_the_first_of_a_key_stays_whatever_the_order_of_rows(spark):
    columns = "event_id string, note string, kafka_partition int, kafka_offset bigint"
    rows = [("a", "repeat", 1, 9), ("a", "first", 1, 3), ("b", "only", 0, 7), (None, "null key", 0, 1)]
    settled = first_of_each_key(spark.createDataFrame(rows, columns), CONTRACTS["events"]).collect()
    assert {(row.event_id, row.note) for row in settled} == {("a", "first"), ("b", "only"), (None, "null key")}


def test_versions_of_one_owner_are_different_rows(spark):
    columns = "customer_id string, sequence bigint, kafka_partition int, kafka_offset bigint"
    rows = [("c", 1, 0, 0), ("c", 2, 0, 1), ("c", 1, 0, 2)]
    settled = first_of_each_key(spark.createDataFrame(rows, columns), CONTRACTS["profiles"]).collect()
    assert sorted((row.sequence, row.kafka_offset) for row in settled) == [(1, 0), (2, 1)]
