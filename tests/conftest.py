"""The tests' own stack, brought up by the command that a user types; `crm test` removes it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime, timedelta
from importlib.metadata import entry_points
from io import StringIO
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest
import typer

from data_platform_core.cli.main import run
from data_platform_core.contracts import ENTITIES
from data_platform_core.settings import load_settings
from data_platform_core.warehouse import DATABASE
from home_server import stack
from home_server.airflow_api import AirflowApi
from home_server.components import create_warehouse
from home_server.demo import has_landed
from home_server.environment import admin_dsn

ROOT = Path(__file__).parents[1]
SMALL_WORLD = {"CRM_WORLD_CUSTOMERS": "400", "CRM_WORLD_PRODUCTS": "12", "CRM_WORLD_EVENTS_PER_DAY": "700"}


class Crm:
    """The `crm` command line: within this process, whose libraries are loaded once, or as a user runs it."""

    def __init__(self):
        self._program = str(Path(os.environ["CRM_HOME"]) / "bin" / "crm")
        self._within = typer.Typer(pretty_exceptions_enable=False)
        for register in {point.value: point for point in entry_points(group="crm.commands")}.values():
            register.load()(self._within)

    def __call__(self, *arguments, fails=False, env=None, timeout=900):
        """Run a command; what it printed and its exit code."""
        if arguments[0] in ("demo", "reset"):
            done = subprocess.run(
                [self._program, *arguments],
                env=os.environ | (env or {}),
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        else:
            done = self._run_within(arguments, env or {})
        assert (done.returncode != 0) == fails, f"crm {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def _run_within(self, arguments, env):
        out, err, handler = StringIO(), StringIO(), signal.getsignal(signal.SIGTERM)
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["crm", *arguments])
            for name, value in env.items():
                patch.setenv(name, value)
            try:
                run(self._within)
                code = 0
            except SystemExit as end:
                code = end.code or 0
            finally:
                signal.signal(signal.SIGTERM, handler)
        if code in (130, 143):
            pytest.exit("interrupted")
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def start(self, *arguments):
        """Start without waiting, as a process of its own."""
        return subprocess.Popen([self._program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def status(self):
        """What `crm status --json` tells."""
        return stack.status(load_settings())


@pytest.fixture(scope="session")
def crm():
    if "CRM_STACK" not in os.environ:
        pytest.skip("needs a stack of its own: run it by `make test`")
    return Crm()


@pytest.fixture(scope="session")
def demo(crm):
    """The main job, run once; what it printed. Tests break the stream: nothing starts it meanwhile."""
    told = crm("demo", "--live", "15", "--tps", "40").stdout
    AirflowApi(load_settings()).pause("crm_stream_watch")
    return told


@pytest.fixture(scope="session")
def settings(crm):
    """A stack without Airflow, whose lake has two days of history and a few seconds of live traffic, published."""
    crm("up", "stream", "postgres")
    settings = load_settings()
    today = datetime.now(ZoneInfo(settings.shop_time_zone)).date()
    crm("generate", "backfill", "--from", f"{today - timedelta(days=2)}", "--to", f"{today - timedelta(days=1)}")
    crm("generate", "live", "--tps", "40", "--for", "5s")
    wait_for(lambda: all(has_landed(settings, entity) for entity in ENTITIES), what="the history to land")
    crm("publish", "--run", "first")
    return settings


@pytest.fixture
def own_stack(crm, monkeypatch, tmp_path):
    """An empty stack beside the tests' own, gone afterwards; the offset of its ports."""
    offset = int(os.environ["CRM_PORT_OFFSET"]) + 300
    monkeypatch.setenv("CRM_STACK", str(tmp_path / "stack"))
    monkeypatch.setenv("CRM_PORT_OFFSET", str(offset))
    yield offset
    crm("reset", "--yes")


@pytest.fixture(scope="session")
def warehouse_server(crm):
    """A PostgreSQL for tests that need no more, and a small world."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL_WORLD.items():
            patch.setenv(name, value)
        crm("up", "postgres")
        yield load_settings()


@pytest.fixture
def warehouse(warehouse_server, tmp_path):
    """An empty warehouse, and silver of its own."""
    from own_warehouse import Warehouse

    with psycopg.connect(admin_dsn(warehouse_server), autocommit=True) as server:
        server.execute(f"drop database if exists {DATABASE} with (force)")
    create_warehouse(warehouse_server)
    return Warehouse(warehouse_server, tmp_path)


def wait_for(condition, within_seconds=300.0, what="the condition"):
    """Wait until a condition is true, with a limit."""
    deadline = time.monotonic() + within_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} has not come true after {within_seconds:.0f} s"
        time.sleep(0.2)
    return value
