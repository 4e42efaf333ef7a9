"""`crm backfill`, `crm maintenance`, `crm forget`, `crm requests`: what is asked of the streaming application."""

from __future__ import annotations

import json
import math
import sys
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from data_platform_core.errors import ComponentFailed, CrmError, Interrupted, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from data_platform_core.settings import Settings

_PURGE_TRIES = 5
_MOST_PIECES = 1000
"""Airflow's own `max_map_length` is 1,024."""
_DAY = ["%Y-%m-%d"]
Within = Annotated[float, typer.Option("--within", min=1, help="Seconds to wait; the request goes on after them.")]


def backfill_command(
    entity: Annotated[str, typer.Argument(help="Whose records these are.")],
    folder: Annotated[str | None, typer.Argument(help="A folder of *.ndjson or *.parquet, here or s3://….")] = None,
    topic: Annotated[str | None, typer.Option(help="A topic instead, whole as it is now.")] = None,
    first: Annotated[datetime | None, typer.Option("--from", formats=_DAY, help="First day of files to take.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=_DAY, help="Last day of files to take.")] = None,
    within: Within = 4 * 3600,
) -> None:
    """Bring a year of files, or a topic, into the lake by the stream's own way. Safe to break off and repeat.

    Files are chosen by days where their names tell a window, as those of `crm generate backfill --out` do; of products
    and profiles all are taken up to the last day, since what happened refers to versions of long before.
    """
    from data_platform_core.contracts import known_entities
    from data_platform_core.settings import load_settings

    known_entities([entity])
    if (folder is None) == (topic is None):
        raise UsageError("name a folder, or a topic by --topic; not both")
    if (first is None) != (last is None) or (first and topic):
        raise UsageError("name both --from and --to, and a folder; or neither")
    if folder and "://" not in folder:
        folder = str(Path(folder).absolute())  # the application is at home elsewhere
    settings = load_settings()
    words = {"entity": entity, "topic": topic} if topic else {"entity": entity, "folder": folder}
    if first and last:
        past_days(settings, first.date(), last.date())
        words |= {"from": str(first.date()), "to": str(last.date())}
    done = asked(settings, "backfill", words, within)
    typer.echo(", ".join(f"{name.replace('_', ' ')}: {value:,}" for name, value in done.items()))
    if done["refused"] and not done["records"] + done["repeated"]:
        raise CrmError(
            f"not one of these records is a record of {entity}: are they another entity's? "
            f"`crm quarantine list {entity}` says what was wrong with them"
        )


def chunks_command(
    first: Annotated[datetime, typer.Option("--from", formats=_DAY, help="First day, in the shop's time zone.")],
    last: Annotated[datetime, typer.Option("--to", formats=_DAY, help="Last day.")],
    days: Annotated[int, typer.Option(min=1, help="Days of a chunk.")] = 7,
    entities: Annotated[list[str] | None, typer.Argument(help="Which entities; all without it.")] = None,
) -> None:
    """What a backfill of whole days is cut into, as JSON: an entity and its days a piece, for Airflow to map."""
    from data_platform_core.contracts import CONTRACTS, known_entities
    from data_platform_core.settings import load_settings

    # masters first: what an hourly run in between finds has its customers and products
    chosen = sorted(known_entities(entities or ()), key=lambda entity: not CONTRACTS[entity].is_master)
    past_days(load_settings(), first.date(), last.date())
    pieces = [
        {"ENTITY": entity, "FIRST": str(start), "LAST": str(min(start + timedelta(days=days - 1), last.date()))}
        for start in (first.date() + timedelta(days=n) for n in range(0, (last - first).days + 1, days))
        for entity in chosen
    ]
    if len(pieces) > _MOST_PIECES:
        raise UsageError(f"{len(pieces):,} pieces are more than the {_MOST_PIECES:,} Airflow maps: take more --days")
    typer.echo(json.dumps(pieces))


def past_days(settings: Settings, first: date, last: date) -> None:
    """Refuse days that are no window, or have not been yet.

    Raises:
        UsageError: says which.
    """
    today = datetime.now(ZoneInfo(settings.shop_time_zone)).date()
    if first > last:
        raise UsageError(f"{first} to {last} is no window: the first day comes after the last")
    if last > today:
        raise UsageError(f"{first} to {last} has not been yet: it is {today} in the shop ({settings.shop_time_zone})")


def maintenance_command(
    entities: Annotated[list[str] | None, typer.Argument(help="Which entities; all without it.")] = None,
    retention: Annotated[float | None, typer.Option(help="Hours that files of old versions stay.")] = None,
    compact_only: Annotated[bool, typer.Option("--compact-only", help="Join small files, remove none.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The whole report.")] = False,
    within: Within = 4 * 3600,
) -> None:
    """Compact the lake's tables, and remove files that no version within the retention needs."""
    from rich.table import Table

    from data_platform_core.contracts import known_entities
    from data_platform_core.settings import load_settings

    words: dict[str, Any] = {"entities": list(known_entities(entities or ())), "compact_only": compact_only}
    if retention is not None and not math.isfinite(retention):
        raise UsageError(f"--retention {retention}: write it in hours, as 168")
    if retention is not None:
        words["retention_hours"] = retention
    report = asked(load_settings(), "maintenance", words, within)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    table = Table("table", "files", "then", "MiB", "then", "kept h", "orphans", box=None)
    for name, told in report.items():
        before, after = told["before"], told["after"]
        sizes = (f"{one['bytes'] / 2**20:,.1f}" for one in (before, after))
        kept, orphans = str(told.get("retention_hours", "")), str(told.get("orphans", {}).get("files", ""))
        size, then = sizes
        table.add_row(name, f"{before['files']:,}", f"{after['files']:,}", size, then, kept, orphans)
    console().print(table)


def forget_command(
    customer_id: Annotated[str, typer.Argument(help="As cus_0123456789abcdef.")],
    within: Within = 3600,
) -> None:
    """Forget a customer: out of silver, quarantine and bronze, out of what is published, and out of old files.

    Kafka keeps its messages until the topic's retention ends them; what still comes of the customer is kept out. The
    models of the warehouse have the customer until they are built next.
    """
    from data_platform_core.contracts import ENTITIES
    from data_platform_core.quality.forget import forget_verdicts
    from data_platform_core.settings import load_settings
    from spark_jobs.batch.publish import publish
    from spark_jobs.maintenance.fingerprint import fingerprint_of

    settings = load_settings()
    fingerprint = fingerprint_of(customer_id)
    publish(settings, f"forget-{fingerprint[:16]}-{time.time_ns()}", ENTITIES)
    asked(settings, "forget", {"customer_id": customer_id}, within)
    for attempt in range(1, _PURGE_TRIES + 1):
        # the files of old versions may go when the publish has read what it needs of them
        publish(settings, f"forget-{fingerprint[:16]}-{time.time_ns()}", ENTITIES)
        try:
            asked(settings, "purge", {"fingerprint": fingerprint}, within)
            break
        except ComponentFailed:
            raise
        except CrmError as error:
            if "must be published" not in str(error) or attempt == _PURGE_TRIES:
                raise
    forget_verdicts(settings, customer_id)
    typer.echo(f"forgotten; the tombstone is {fingerprint}")
    typer.echo("the warehouse's models forget when they are built next: `cd dbt && dbt run`")


def requests_command() -> None:
    """What was asked of the streaming application last, and what became of it."""
    from rich.table import Table

    from data_platform_core.settings import load_settings
    from data_platform_core.warehouse import connect

    table = Table("request", "kind", "state", "asked", "took", "progress or message", box=None)
    with connect(load_settings()) as connection:
        rows = connection.execute(
            "select id, kind, state, asked_at, extract(epoch from coalesce(ended_at, now()) - started_at),"
            " coalesce(message, progress::text, '') from ops.requests order by id desc limit 20"
        )
        for number, kind, state, asked_at, seconds, words in rows:
            took = f"{seconds:,.0f} s" if seconds is not None else ""
            table.add_row(str(number), kind, state, f"{asked_at:%Y-%m-%d %H:%M:%S}", took, words)
    console().print(table)


def asked(settings: Settings, kind: str, arguments: dict[str, Any], within: float) -> dict[str, Any]:
    """Ask the streaming application for something, and wait for it; returns its result."""
    from data_platform_core.requests import ask, wait
    from data_platform_core.warehouse import connect

    seen: dict[str, Any] = {}

    def tell(progress: dict[str, Any]) -> None:
        if progress != seen:
            seen.clear()
            seen.update(progress)
            typer.echo(
                "  " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in progress.items()), err=True
            )

    with connect(settings) as connection:
        number = ask(connection, kind, arguments)
        try:
            return wait(connection, number, within, tell, lambda: _has_owner(settings))
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; request {number} stands, and `crm requests` shows it") from None


def _has_owner(settings: Settings) -> bool:
    from data_platform_core.lake_owner import lake_owner

    try:
        return lake_owner(settings) is not None
    except ComponentFailed:
        return True  # a store that is away, the application waits for


def console() -> Console:
    """Where tables are printed; where nobody looks through a terminal, they need not be squeezed into 80 columns."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def register(app: typer.Typer) -> None:
    """Bring the commands of this file to `crm`."""
    app.command("backfill", rich_help_panel="Lake")(backfill_command)
    app.command("chunks", rich_help_panel="Lake")(chunks_command)
    app.command("maintenance", rich_help_panel="Lake")(maintenance_command)
    app.command("forget", rich_help_panel="Lake")(forget_command)
    app.command("requests", rich_help_panel="Lake")(requests_command)
