"""The main job: set-up, two days of history, live traffic, through to the marts, and the proof."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from data_platform_core.checkpoints import stream_position
from data_platform_core.cli.audit import audit_table, check_agreement
from data_platform_core.contracts import ENTITIES
from data_platform_core.errors import ComponentFailed, CrmError
from data_platform_core.layers import REVENUE_MART
from data_platform_core.ledger.audit import audit
from data_platform_core.ledger.stores import kafka_ends
from data_platform_core.settings import Settings
from data_platform_core.warehouse import connect
from home_server import stack
from home_server.airflow_api import AirflowApi
from home_server.environment import process_environment
from home_server.steps import Step, cancelled, tracked

DAG = "crm_publish_and_model"


def demo(settings: Settings, console: Console, live_seconds: int, tps: float) -> None:
    """Run the main job and print what came of it.

    Raises:
        StoresDisagree: the stores do not hold what was made.
    """
    started = time.monotonic()
    settings = stack.prepare(settings)
    steps = [
        *stack.up_steps(settings),
        Step("history", lambda: _history(settings), ("topics",)),
        # to Kafka, which is there long before the stream: what is sent meanwhile is its first batch
        Step(
            "live traffic",
            lambda: _generate(settings, "live", "--tps", f"{tps:g}", "--for", f"{live_seconds}s"),
            ("history",),
        ),
        Step("landed", lambda: _landed(settings), ("live traffic", "stream")),
        Step("publish, gate, model", lambda: _run_dag(settings), ("landed", *_AIRFLOW)),
    ]
    stack.record_timings(settings, "demo", stack.run_plan(settings, steps, console))
    rows = audit(settings)
    console.print(audit_table(rows))
    console.print(_mart_table(settings))
    console.print(_addresses(settings), soft_wrap=True)
    console.print(f"[dim]{time.monotonic() - started:.0f} s in all; the stack stays up until `make down`[/dim]")
    check_agreement(rows)


_AIRFLOW = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")


def _history(settings: Settings) -> str:
    today = _today(settings)
    return _generate(
        settings, "backfill", "--from", f"{today - timedelta(days=2)}", "--to", f"{today - timedelta(days=1)}"
    )


def _today(settings: Settings) -> date:
    return datetime.now(ZoneInfo(settings.shop_time_zone)).date()


def _generate(settings: Settings, *arguments: str) -> str:
    """Run the generator by its command line, as anyone would."""
    command = [str(settings.home / "bin" / "crm"), "generate", *arguments, "--json"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=process_environment(settings), stdout=pipe, stderr=pipe, text=True)
    with tracked(process):
        out, err = process.communicate()
    if process.returncode:
        raise CrmError(err.strip().removeprefix("crm: ") or f"`{' '.join(command[1:])}` failed")
    records = json.loads(out)["records"]
    return f"{records:,} records" if records else "there"


def _landed(settings: Settings, within_seconds: float = 600.0) -> str:
    """Wait until the stream has landed all that Kafka has."""
    deadline = time.monotonic() + within_seconds
    for entity in ENTITIES:
        while not has_landed(settings, entity):
            if cancelled.is_set():
                raise ComponentFailed("given up")
            if time.monotonic() > deadline:
                raise ComponentFailed(f"{entity} have not landed after {within_seconds:.0f} s; see `crm logs stream`")
            time.sleep(0.5)
    return "all that Kafka has"


def has_landed(settings: Settings, entity: str) -> bool:
    """Whether the stream has finished all that Kafka has of an entity, told by its checkpoint."""
    position = stream_position(settings, entity)
    return all(position.get(p, -1) >= end for p, end in kafka_ends(settings, entity).items())


def _run_dag(settings: Settings) -> str:
    airflow = AirflowApi(settings)
    airflow.wait_for_dag(DAG)
    run = airflow.trigger(DAG)
    if airflow.wait_for_run(DAG, run) != "success":
        failed = [task for task in airflow.tasks(DAG, run) if task["state"] == "failed"]
        failed.sort(key=lambda task: task["end_date"])
        last = (
            "\n  ".join(airflow.log(DAG, run, failed[0]["task_id"], failed[0]["try_number"]).splitlines()[-12:])
            if failed
            else ""
        )
        names = ", ".join(task["task_id"] for task in failed) or "no task"
        raise ComponentFailed(
            f"the run {run} of {DAG} failed at {names}; its log in the Airflow UI ends with:\n  {last}"
        )
    return run


def _mart_table(settings: Settings) -> Table:
    columns = ("day", "segment", "orders", "customers", "gross", "paid back", "net", "")
    title = f"\n{REVENUE_MART}, the last days, in minor units"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 0, 0, 1))
    for column in columns:
        table.add_column(column, justify="left" if column in ("day", "segment", "") else "right")
    query = (
        "select ordered_date, segment, order_count, customer_count, gross_revenue_minor, returned_minor,"
        f" net_revenue_minor, currency from {REVENUE_MART} order by ordered_date desc, net_revenue_minor desc limit 8"
    )
    with connect(settings, "crm_dbt") as connection:
        for row in connection.execute(query):
            table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    return table


def _addresses(settings: Settings) -> str:
    found = [("Airflow", settings.airflow_url, "admin", settings.secret("airflow_admin_password"))]
    if not settings.s3_endpoint and settings.s3_store == "minio":
        console = f"http://127.0.0.1:{settings.port('minio-console')}"
        found.append(("MinIO console", console, settings.s3_access_key, settings.secret("s3_secret_key")))
    database = stack.status(settings)["warehouse"]["dsn"].partition("@")[2]
    found.append(("PostgreSQL", database, "crm_dbt", settings.secret("dbt_password")))
    return "\n" + "\n".join(f"{name:<14} {address:<27} {user} / {password}" for name, address, user, password in found)
