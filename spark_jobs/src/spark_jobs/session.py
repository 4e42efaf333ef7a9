"""The Spark session. Where things are is told by `spark-defaults.conf`, on every kind of machine."""

from __future__ import annotations

from pyspark.sql import SparkSession


def spark_session(name: str) -> SparkSession:
    """The session of an application."""
    return SparkSession.builder.appName(name).getOrCreate()
