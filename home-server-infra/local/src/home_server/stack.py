"""The stack as a whole: up, down, status."""

from __future__ import annotations

import fcntl
import json
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from data_platform_core.errors import Interrupted, UsageError
from data_platform_core.layers import LAYERS, TOPICS, lake_table
from data_platform_core.settings import Settings, load_settings
from data_platform_core.warehouse import warehouse_dsn
from home_server.components import (
    archive_classes,
    component_named,
    create_bucket,
    create_topics,
    create_warehouse,
    migrate_airflow,
    write_spark_conf,
)
from home_server.credentials import ensure_credentials
from home_server.processes import Processes
from home_server.steps import Step, run_steps, with_needs
from home_server.toolchain import setup_steps, write_platform_commands

if TYPE_CHECKING:
    from rich.console import Console

_LONGEST_PLAN_SECONDS = 1200.0
"""So long another command's plan is waited for: a first start that installs everything takes a third of it."""


def prepare(settings: Settings) -> Settings:
    """Generate the stack's passwords if it has none; returns the settings that hold them."""
    given = {name: settings.secret(name) for name, value in settings if isinstance(value, SecretStr)}
    if ensure_credentials(settings.credentials_file, given, settings.port_offset):
        settings = load_settings()
    write_platform_commands(settings)
    return settings


def up_steps(settings: Settings, only: tuple[str, ...] = ()) -> list[Step]:
    """The plan that brings the stack up; of its components only those named and what they need, if any are.

    Raises:
        UsageError: a component is named that this stack does not have.
    """
    processes = Processes(settings.stack_dir)
    names = component_names(settings)
    known_components(settings, only)

    def starter(name: str) -> Step:
        # looked up when its turn has come: only then is what it runs on installed
        return Step(name, lambda: processes.start(component_named(settings, name)), _NEEDS[name])

    glue = [
        Step("topics", lambda: create_topics(settings), ("kafka",)),
        Step("bucket", lambda: create_bucket(settings), () if settings.s3_endpoint else (settings.s3_store,)),
        Step("warehouse", lambda: create_warehouse(settings), ("postgres",)),
        Step("airflow database", lambda: migrate_airflow(settings), ("warehouse", "set up airflow")),
        Step("set up classes", lambda: archive_classes(settings), ("set up jars",)),
        Step("spark settings", lambda: write_spark_conf(settings), ("set up classes",)),
    ]
    steps = [*setup_steps(settings), *glue, *(starter(name) for name in names)]
    wanted = (*only, *(_LAID_OUT_BY[name] for name in only if name in _STORES))
    return with_needs(steps, wanted) if only else steps


_STORES = ("kafka", "minio", "postgres", "seaweedfs")
_LAID_OUT_BY = {"kafka": "topics", "minio": "bucket", "postgres": "warehouse", "seaweedfs": "bucket"}
"""The step after which a store can be used."""
_STOP_SIGNALS = {"postgres": signal.SIGINT}  # its fast shutdown
_NEEDS = {
    "kafka": ("set up jars", "set up java"),
    "minio": ("set up minio",),
    "seaweedfs": ("set up seaweedfs",),
    "postgres": ("set up postgres", "set up java"),
    "stream": ("topics", "bucket", "warehouse", "spark settings"),
    "airflow-api-server": ("airflow database", "set up dbt", "set up java"),
    "airflow-scheduler": ("airflow database", "set up dbt", "set up java"),
    "airflow-dag-processor": ("airflow database", "set up dbt", "set up java"),
    "airflow-triggerer": ("airflow database", "set up dbt", "set up java"),
}


def component_names(settings: Settings) -> list[str]:
    """Names of the components that this stack runs itself."""
    left_out = {
        "kafka": settings.kafka_bootstrap,
        "minio": settings.s3_endpoint or settings.s3_store != "minio",
        "postgres": settings.postgres_dsn,
        "seaweedfs": settings.s3_endpoint or settings.s3_store != "seaweedfs",
    }
    return [name for name in _NEEDS if not left_out.get(name)]


def up(settings: Settings, console: Console, only: tuple[str, ...] = ()) -> dict[str, float]:
    """Bring the stack up; returns each step's seconds. What lives is left as it is."""
    settings = prepare(settings)
    seconds = run_plan(settings, up_steps(settings, only), console)
    record_timings(settings, "up", seconds)
    return seconds


def set_up(settings: Settings, console: Console) -> None:
    """Install what is missing, and start nothing."""
    write_platform_commands(settings)
    run_steps(setup_steps(settings), console)


def run_plan(settings: Settings, steps: list[Step], console: Console) -> dict[str, float]:
    """Run a plan; it ends where a component of the plan dies meanwhile, or a step fails."""
    processes = Processes(settings.stack_dir)
    with _one_at_a_time(settings, console):
        names = {step.name for step in steps} & set(component_names(settings))
        dead = {name for name in names if processes.has_died(name)}  # before: the plan starts them again

        def watch() -> None:
            dead.difference_update([name for name in dead if processes.find(name)])
            processes.check_alive(names - dead)

        try:
            return run_steps(steps, console, watch)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; what was started still runs: `crm status` shows it, `crm down` stops it, "
                "and the same command goes on where it stopped"
            ) from None


@contextmanager
def _one_at_a_time(settings: Settings, console: Console) -> Iterator[None]:
    """Hold the stack for this plan; another that is under way, of a DAG perhaps, is waited for.

    Raises:
        UsageError: the other does not come to its end.
    """
    lock = settings.stack_dir / "run" / "plan.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _LONGEST_PLAN_SECONDS
    told = False
    with lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise UsageError(f"another `crm` is still at work on the stack in {settings.stack_dir}") from None
            if not told:
                console.print("another `crm` is at work on this stack: waiting for it")
                told = True
            time.sleep(0.5)
        yield


def down(settings: Settings, console: Console, only: tuple[str, ...] = ()) -> None:
    """Stop the stack, or some components, and keep its data; first what uses the stores, then the stores.

    Raises:
        UsageError: a component is named that this stack does not have.
    """
    names = known_components(settings, only) or component_names(settings)
    processes = Processes(settings.stack_dir)

    def stop(name: str) -> None:
        started = time.monotonic()
        if processes.stop(name, _STOP_SIGNALS.get(name, signal.SIGTERM)):
            seconds = time.monotonic() - started
            console.print(f"  [green]✓[/green] {name:<24} stopped in {seconds:.1f} s", highlight=False)

    with ThreadPoolExecutor() as pool:
        for wave in ([n for n in names if n not in _STORES], [n for n in names if n in _STORES]):
            list(pool.map(stop, wave))


def known_components(settings: Settings, wanted: tuple[str, ...]) -> list[str]:
    """The components that are named.

    Raises:
        UsageError: a component is named that this stack does not have.
    """
    names = component_names(settings)
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise UsageError(f"no component {', '.join(unknown)}: the stack has {', '.join(names)}")
    return list(wanted)


def reset(settings: Settings, console: Console) -> None:
    """Stop the stack and delete its data, logs and passwords.

    Raises:
        UsageError: the folder is not one of a stack.
        CrmError: something could not be deleted.
    """
    if not settings.credentials_file.exists():
        raise UsageError(f"{settings.stack_dir} is not a stack: it has no {settings.credentials_file.name}")
    down(settings, console)
    for name in ("conf", "data", "ledger", "logs", "run", "timings"):  # ours by name: whatever else stands there stays
        if (settings.stack_dir / name).exists():
            shutil.rmtree(settings.stack_dir / name)
    settings.credentials_file.unlink(missing_ok=True)
    with suppress(OSError):
        settings.stack_dir.rmdir()


def status(settings: Settings) -> dict[str, Any]:
    """All that another tool needs to know of the stack."""
    processes = Processes(settings.stack_dir)
    addresses = {
        "kafka": settings.kafka_address,
        settings.s3_store: settings.s3_url,
        "postgres": warehouse_dsn(settings, "crm_dbt"),
        "stream": f"http://127.0.0.1:{settings.port('spark-ui')}",
    }
    parts = []
    for name in component_names(settings):
        process = processes.find(name)
        state = "running" if process else "died" if processes.has_died(name) else "stopped"
        parts.append(
            {
                "name": name,
                "state": state,
                "pid": process.pid if process else None,
                "address": addresses.get(name, settings.airflow_url),
                "log": str(processes.log(name)),
                "credentials_file": str(settings.credentials_file),
            }
        )
    return {
        "stack": str(settings.stack_dir),
        "credentials_file": str(settings.credentials_file),
        "components": parts,
        "kafka": {"bootstrap": settings.kafka_address, "topics": TOPICS},
        "lake": {
            "root": settings.lake_root,
            "s3_endpoint": settings.s3_url,
            "tables": {f"{layer}.{e}": lake_table(settings.lake_root, layer, e) for layer in LAYERS for e in TOPICS},
        },
        "warehouse": {
            "dsn": warehouse_dsn(settings, "crm_dbt"),
            "publisher_dsn": warehouse_dsn(settings, "crm_publisher"),
        },
        "airflow": {"url": settings.airflow_url, "user": "admin"},
        "minio_console": f"http://127.0.0.1:{settings.port('minio-console')}",
        "ledger": str(settings.ledger_file),
    }


def record_timings(settings: Settings, what: str, seconds: dict[str, float]) -> None:
    """Keep the seconds of the steps of the last run, for `crm bench startup` and for the curious."""
    file = settings.stack_dir / "timings" / f"{what}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({name: round(value, 2) for name, value in seconds.items()}, indent=2) + "\n")
