"""Why a query ended, told from what Spark says of it."""

import pytest

from spark_jobs.streaming.failures import in_one_line, is_a_full_store, is_out_of_reach

TOLD = (
    """An error occurred while calling o91.commit.
: org.apache.hadoop.fs.s3a.AWSClientIOException: Writing Object on silver/events: Connect to 127.0.0.1:9000 failed
\tat org.apache.hadoop.fs.s3a.S3AUtils.translateException(S3AUtils.java:237)
Caused by: java.net.ConnectException: Connection refused
"""
    + "\tat some.deep.Frame.of(A.java:1)\n" * 500
)


def test_an_error_of_sparks_becomes_a_line_that_names_its_causes():
    line = in_one_line(TOLD)
    assert "AWSClientIOException: Writing Object on silver/events" in line and "Connection refused" in line
    assert "\n" not in line and len(line) <= 1200 and "Frame" not in line


@pytest.mark.parametrize(
    ("reason", "away", "full"),
    [
        (TOLD, True, False),
        ("software.amazon.awssdk…S3Exception: (Service: S3, Status Code: 507)", True, True),
        ("The XML: XMinioStorageFull: Storage backend has reached its minimum free drive threshold", False, True),
        ("java.io.IOException: No space left on device", False, False),
        ("java.lang.ArithmeticException: divide by zero", False, False),
    ],
)
def test_what_may_come_back_is_told_from_what_does_not(reason, away, full):
    assert (is_out_of_reach(in_one_line(reason)), is_a_full_store(in_one_line(reason))) == (away, full)
