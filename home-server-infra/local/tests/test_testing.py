"""The tests' own stack is gone afterwards, also when they fail or are interrupted."""

import os
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from data_platform_core.settings import Settings
from home_server.credentials import ensure_credentials
from home_server.places import ROOT
from home_server.processes import Component, Processes
from home_server.testing import _clear_left_over_stacks, _own_stack

QUIET = Console(quiet=True)
HOME = Path(os.environ.get("CRM_HOME") or ROOT / ".crm").resolve()


@pytest.fixture
def settings(tmp_path):
    """A home of a test's own: another worker's test may clear the stacks of a shared one."""
    (tmp_path / "bin").symlink_to(HOME / "bin")
    return Settings(home=tmp_path)


def start_something(folder):
    """A component of the stack in a folder, as `crm up` would have started it."""
    ensure_credentials(folder / "credentials.env", {}, 20_000)
    sleeper = [sys.executable, "-c", "import time; time.sleep(300)"]
    processes = Processes(folder)
    processes.start(Component("kafka", sleeper, dict(os.environ), is_ready=lambda: processes.find("kafka") is not None))
    return processes.find("kafka")


def is_gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, AssertionError])
def test_the_stack_is_gone_after_an_interruption(settings, interruption):
    seen = []

    def run():
        with _own_stack(settings, QUIET) as environment:
            folder = Path(environment["CRM_STACK"])
            seen.extend([folder, start_something(folder)])
            assert seen[1].is_running()
            raise interruption

    with pytest.raises(interruption):
        run()
    folder, process = seen
    assert is_gone(process)
    assert not folder.exists()


def test_what_a_killed_run_left_is_cleared_by_the_next(settings):
    folder = settings.home / "test-left"
    process = start_something(folder)
    _clear_left_over_stacks(settings, QUIET)
    assert is_gone(process)
    assert not folder.exists()


def test_a_run_under_way_is_left_alone(settings):
    with _own_stack(settings, QUIET) as environment:
        process = start_something(Path(environment["CRM_STACK"]))
        _clear_left_over_stacks(settings, QUIET)
        assert process.is_running()
    assert is_gone(process)
