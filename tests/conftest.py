"""The tests' own stack, brought up by the command that a user types; `crm test` removes it."""

import json
import os
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from data_platform_core.settings import load_settings
from data_platform_core.warehouse import DATABASE
from home_server.airflow_api import AirflowApi
from home_server.environment import admin_dsn

ROOT = Path(__file__).parents[1]
SMALL_WORLD = {"CRM_WORLD_CUSTOMERS": "400", "CRM_WORLD_PRODUCTS": "12", "CRM_WORLD_EVENTS_PER_DAY": "700"}


class Crm:
    """The `crm` command line, run as a user runs it."""

    def __init__(self):
        self._program = str(Path(os.environ["CRM_HOME"]) / "bin" / "crm")

    def __call__(self, *arguments, fails=False, env=None, timeout=900):
        done = subprocess.run(
            [self._program, *arguments], env=os.environ | (env or {}), capture_output=True, text=True, timeout=timeout
        )
        assert (done.returncode != 0) == fails, f"crm {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def start(self, *arguments):
        """Start without waiting."""
        return subprocess.Popen([self._program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def status(self):
        """What `crm status --json` tells, whatever its exit code."""
        return json.loads(subprocess.run([self._program, "status", "--json"], capture_output=True, text=True).stdout)


@pytest.fixture(scope="session")
def crm():
    if "CRM_STACK" not in os.environ:
        pytest.skip("needs a stack of its own: run it by `make test`")
    return Crm()


@pytest.fixture(scope="session")
def demo(crm):
    """The main job, run once; what it printed. Tests stop and break the stream: nothing starts it meanwhile."""
    told = crm("demo", "--live", "15", "--tps", "40").stdout
    AirflowApi(load_settings()).pause("crm_stream_watch")
    return told


@pytest.fixture(scope="session")
def settings(demo):
    return load_settings()


@pytest.fixture
def own_stack(crm, monkeypatch, tmp_path):
    """An empty stack beside the tests' own, gone afterwards; the offset of its ports."""
    offset = int(os.environ["CRM_PORT_OFFSET"]) + 300
    monkeypatch.setenv("CRM_STACK", str(tmp_path / "stack"))
    monkeypatch.setenv("CRM_PORT_OFFSET", str(offset))
    yield offset
    crm("reset", "--yes")


@pytest.fixture(scope="session")
def warehouse_words(crm, tmp_path_factory):
    """The settings of a PostgreSQL for tests that need no more, and of a small world; it runs until the last of them."""
    words = {
        "CRM_STACK": str(tmp_path_factory.mktemp("warehouse") / "stack"),
        "CRM_PORT_OFFSET": str(int(os.environ["CRM_PORT_OFFSET"]) + 450),
        **SMALL_WORLD,
    }
    crm("up", "postgres", env=words)
    yield words
    crm("reset", "--yes", env=words)


@pytest.fixture
def warehouse(crm, warehouse_words, monkeypatch, tmp_path):
    """An empty warehouse, and silver of its own."""
    from own_warehouse import Warehouse

    for name, value in warehouse_words.items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(admin_dsn(load_settings()), autocommit=True) as server:
        server.execute(f"drop database if exists {DATABASE} with (force)")
    crm("up", "postgres")
    return Warehouse(load_settings(), tmp_path)


def wait_for(condition, within_seconds=120.0, what="the condition"):
    """Wait until a condition is true, with a limit."""
    deadline = time.monotonic() + within_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} has not come true after {within_seconds:.0f} s"
        time.sleep(0.2)
    return value
