"""One Spark session for all tests; transformations need neither a lake nor a broker."""

import pytest


@pytest.fixture(scope="session")
def spark():
    from pyspark.sql import SparkSession  # tests of programs without Spark run where it is not

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    yield session
    session.stop()


MESSAGE = "key binary, value binary, kafka_topic string, kafka_partition int, kafka_offset bigint, arrived_at timestamp"


@pytest.fixture
def messages(spark):
    """Makes bronze rows out of messages' bytes, at offsets 0, 1, 2 …"""
    from datetime import datetime

    def make(*values):
        arrived = datetime(2026, 11, 20, 1, 2, 3)
        rows = [(b"k", value, "t", 0, offset, arrived) for offset, value in enumerate(values)]
        return spark.createDataFrame(rows, MESSAGE)

    return make
