"""A plan runs in the order of its needs and stops at the first failure."""

import sys
import threading
import time

import pytest
from rich.console import Console

from data_platform_core.errors import CrmError
from home_server.steps import Step, run_command, run_steps

QUIET = Console(quiet=True)


def test_a_step_runs_after_what_it_needs():
    done = []
    steps = [
        Step("c", lambda: done.append("c"), ("b",)),
        Step("b", lambda: done.append("b"), ("a",)),
        Step("a", lambda: done.append("a")),
    ]
    assert set(run_steps(steps, QUIET)) == {"a", "b", "c"}
    assert done == ["a", "b", "c"]


def test_steps_without_needs_run_side_by_side():
    meeting = threading.Barrier(2, timeout=10)
    run_steps([Step("a", lambda: meeting.wait() and None), Step("b", lambda: meeting.wait() and None)], QUIET)


def test_a_need_outside_the_plan_is_taken_as_met():
    assert set(run_steps([Step("a", lambda: None, ("of another plan",))], QUIET)) == {"a"}


def test_after_a_failure_nothing_new_is_started():
    done = []

    def fail():
        raise CrmError("broken")

    with pytest.raises(CrmError, match="broken"):
        run_steps([Step("a", fail), Step("b", lambda: done.append("b"), ("a",))], QUIET)
    assert done == []


def test_a_failed_command_is_told_with_its_log(tmp_path):
    log = tmp_path / "x.log"
    command = [sys.executable, "-c", "print('connection reset by peer'); raise SystemExit(7)"]
    with pytest.raises(CrmError, match=r"fetching failed \(exit code 7\); see .*x\.log:\n  connection reset") as caught:
        run_command(command, log, {}, "fetching")
    assert "run the same command again" in str(caught.value)


def test_when_a_component_dies_the_plan_ends_at_once_with_its_commands(tmp_path):
    def died():
        raise CrmError("kafka died")

    sleeper = [sys.executable, "-c", "import time; time.sleep(300)"]
    steps = [Step("long", lambda: run_command(sleeper, tmp_path / "x.log", {}, "sleeping"))]
    started = time.monotonic()
    with pytest.raises(CrmError, match="kafka died"):
        run_steps(steps, QUIET, watch=died)
    assert time.monotonic() - started < 60
