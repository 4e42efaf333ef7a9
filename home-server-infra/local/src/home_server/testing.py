"""`crm test`: all tests, each in the environment it is about, on a stack of their own."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from data_platform_core.errors import CrmError
from data_platform_core.settings import USUAL_PORTS, Settings
from home_server import stack
from home_server.places import ROOT, env_bin
from home_server.steps import run_steps
from home_server.testbed.base import base_steps, why_not
from home_server.testbed.bed import run_in_bed

_UNIT_TESTS = {
    "platform": (
        "data-platform-core/tests",
        "data-generator/tests",
        "home-server-infra/local/tests",
        "spark_jobs/tests/batch",
    ),
    "spark": ("spark_jobs/tests", "--ignore=spark_jobs/tests/batch"),
    "airflow": ("dags/tests",),
}
_INFRA_TESTS = "ansible/tests"
_ON_EVERY_CORE = ("-n", "logical", "--dist", "worksteal")
"""For the platform's unit tests: 3 minutes of two cores instead of 6 of one."""


class TestsFailed(CrmError):
    """At least one test failed."""


def run_tests(settings: Settings, console: Console, fast: bool, arguments: tuple[str, ...]) -> None:
    """Run the unit tests and, unless `fast`, the tests that need the real components.

    Raises:
        TestsFailed: says in which environments.
    """
    stack.set_up(settings, console)
    _clear_left_over_stacks(settings, console)
    failed = []
    with _own_stack(settings, console) as environment:
        unit = dict(_UNIT_TESTS)
        if not arguments:  # which may ask for what workers cannot do, as --pdb does
            unit["platform"] += _ON_EVERY_CORE
        plan = [*unit.items(), *(() if fast else (("platform", ("tests",)),))]
        for name, words in plan:
            console.rule(f"pytest {' '.join(words)} in the environment {name}", align="left")
            if not _pytest(settings, name, words, environment, arguments):
                failed.append(" ".join(words))
    if not fast and not _infra_passes(settings, console, False, arguments):
        failed.append(_INFRA_TESTS)
    if failed:
        raise TestsFailed(f"tests failed in {'; '.join(failed)}")


def run_drills(settings: Settings, console: Console, arguments: tuple[str, ...]) -> None:
    """Run the drills of the way of the data, and the lake's tests on the other store; each on a stack of its own.

    Raises:
        TestsFailed: says which failed.
    """
    stack.set_up(settings, console)
    _clear_left_over_stacks(settings, console)
    failed = []
    with _own_stack(settings, console) as environment:
        if not _pytest(settings, "platform", ("tests",), environment, ("-m", "drill", *arguments)):
            failed.append("the drills")
    if not arguments:  # which choose among the drills
        other = settings.model_copy(update={"s3_store": "minio" if settings.s3_store == "seaweedfs" else "seaweedfs"})
        console.rule(f"tests of the lake on {other.s3_store}", align="left")
        stack.set_up(other, console)
        with _own_stack(other, console) as environment:
            if not _pytest(other, "platform", ("tests/test_lake.py",), environment, ()):
                failed.append(f"the lake on {other.s3_store}")
    if failed:
        raise TestsFailed(f"{' and '.join(failed)} failed")


def run_infra_tests(settings: Settings, console: Console, drill: bool, arguments: tuple[str, ...]) -> None:
    """Run the tests of the playbooks on a test bed; skipped, with the reason, where there can be none.

    Raises:
        TestsFailed: at least one failed.
    """
    stack.set_up(settings, console)
    if not _infra_passes(settings, console, drill, arguments):
        raise TestsFailed(f"tests failed in {_INFRA_TESTS}")


def _infra_passes(settings: Settings, console: Console, drill: bool, arguments: tuple[str, ...]) -> bool:
    console.rule(f"{'drills' if drill else 'tests'} of {_INFRA_TESTS} on test hosts", align="left")
    reason = why_not()
    if reason:
        console.print(f"[yellow]skipped:[/yellow] {reason}")
        return True
    run_steps(base_steps(settings), console)
    folders = () if any(word.startswith(_INFRA_TESTS) for word in arguments) else (_INFRA_TESTS,)
    chosen = ("-m", "drill") if drill else ()
    command = [env_bin(settings, "platform", "python"), "-m", "pytest", *folders, *chosen, *arguments]
    return run_in_bed(settings, command, os.environ | {"CRM_HOME": str(settings.home)}) == 0


def _pytest(
    settings: Settings, name: str, words: tuple[str, ...], environment: dict[str, str], arguments: tuple[str, ...]
) -> bool:
    command = [env_bin(settings, name, "python"), "-m", "pytest", *words, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode == 0


@contextmanager
def _own_stack(settings: Settings, console: Console) -> Iterator[dict[str, str]]:
    """The environment of a stack of the tests' own: own ports, own folder; gone afterwards, come what may."""
    offset = _free_offset()
    made = Path(tempfile.mkdtemp(prefix="new-", dir=settings.home))
    folder = made.with_name(made.name.replace("new-", "test-", 1))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CRM_", "AIRFLOW", "SPARK"))}
    environment = kept | {
        "CRM_HOME": str(settings.home),
        "CRM_STACK": str(folder),
        "CRM_PORT_OFFSET": str(offset),
        "CRM_WORLD_CUSTOMERS": "2000",
        "CRM_WORLD_PRODUCTS": "40",
        "CRM_WORLD_EVENTS_PER_DAY": "3000",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "CRM_S3_STORE": settings.s3_store,
    }
    with (made / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.rename(folder)  # held before another run can take it for left over
        try:
            yield environment
        finally:
            _reset(settings, folder, environment, console)


def _reset(settings: Settings, folder: Path, environment: dict[str, str], console: Console) -> None:
    if (folder / "credentials.env").exists():
        command = [str(settings.home / "bin" / "crm"), "reset", "--yes"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            console.print(f"[red]the tests' stack in {folder} could not be removed:[/red] {done.stderr}")
    shutil.rmtree(folder, ignore_errors=True)


def _clear_left_over_stacks(settings: Settings, console: Console) -> None:
    """Stop and remove what an earlier run left that was itself killed."""
    for folder in settings.home.glob("test-*"):
        if not _is_held(folder / "tests.lock"):
            _reset(settings, folder, os.environ | {"CRM_HOME": str(settings.home), "CRM_STACK": str(folder)}, console)


def _is_held(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _free_offset() -> int:
    """A port offset at which no port of a stack is taken."""
    for offset in range(20_000, 22_000, 100):
        if all(_is_free(port + offset) for port in USUAL_PORTS.values()):
            return offset
    raise CrmError("no free ports for the tests' stack between 24040 and 31093: end what holds them")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
