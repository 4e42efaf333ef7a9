"""What becomes of a request whose handler fails: told in words, or left to the next application."""

import pytest

from data_platform_core.errors import CrmError
from data_platform_core.requests import Request
from spark_jobs.streaming import desk as module
from spark_jobs.streaming.desk import RequestDesk


@pytest.fixture
def told(monkeypatch):
    found = []
    monkeypatch.setattr(module.requests, "fail", lambda connection, number, words: found.append((number, words)))
    return found


def desk_that_fails_with(error):
    def handler(request, report):
        raise error

    return RequestDesk(lambda: None, {"backfill": handler}, 1.0)


def test_a_failure_is_told_with_its_cause(told):
    error = RuntimeError(
        "An error occurred while calling o1.x.\n: java.net.URISyntaxException: Relative path\n\tat a.B"
    )
    assert desk_that_fails_with(error)._carry_out(None, Request(7, "backfill", {})) == "failed"
    assert told[0][0] == 7 and "URISyntaxException: Relative path" in told[0][1]
    assert desk_that_fails_with(CrmError("no such folder"))._carry_out(None, Request(8, "backfill", {})) == "failed"
    assert told[1] == (8, "no such folder")


def test_what_an_ending_application_breaks_off_is_left_to_the_next(told):
    desk = desk_that_fails_with(RuntimeError("Spark was stopped"))
    desk._ended.set()  # as `close` does
    assert desk._carry_out(None, Request(7, "backfill", {})) == "broken off"
    assert told == []
