"""A query starts only where Kafka still is what was read before."""

import pytest

from spark_jobs.streaming.queries import DataLost, _check_same_topic


def test_a_topic_that_was_made_anew_is_refused():
    _check_same_topic("events", {0: 10, 1: 5}, {0: 10, 1: 4})
    with pytest.raises(DataLost, match=r"partition 0: read up to 10, and Kafka ends at 3\).*crm reset"):
        _check_same_topic("events", {0: 3, 1: 5}, {0: 10, 1: 4})
