"""`crm generate`: make the shop's records and send them to Kafka or to files."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_generator.load.backfill import backfill_units
from data_generator.load.live import run_live
from data_generator.load.units import finish_unfinished, send
from data_generator.sinks import Sink
from data_generator.sinks.files import FileSink
from data_generator.sinks.kafka import KafkaSink
from data_generator.world.config import SECOND, World
from data_platform_core.errors import UsageError
from data_platform_core.kafka import client_settings
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import Settings, load_settings

generate_app = typer.Typer(help="Make the shop's records: history or live, to Kafka or files.", no_args_is_help=True)

Out = Annotated[Path | None, typer.Option(help="Write NDJSON files into this folder instead of Kafka.")]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON at the end, nothing else.")]


def world_of(settings: Settings) -> World:
    """The world that the settings say."""
    return World(
        seed=settings.world_seed,
        opened_on=settings.world_opened_on,
        customers=settings.world_customers,
        products=settings.world_products,
        events_per_day=settings.world_events_per_day,
        time_zone=settings.shop_time_zone,
        currency=settings.shop_currency,
    )


@generate_app.command()
def backfill(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, the shop's.")],
    end: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="The day after the last.")],
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """History: whole days of everything. What was sent before is not sent again."""
    settings = load_settings()
    world = world_of(settings)
    today = world.day_of(int(time.time()) * SECOND)
    if end.date() > today:
        raise UsageError(f"--to {end.date()} is after today ({today}): history goes up to the last whole day")
    units = backfill_units(world, first.date(), end.date())
    sink, ledger = _open(settings, out)
    started = time.monotonic()
    with ledger.writing():
        again = finish_unfinished(world, sink, ledger)
        with _progress(len(units), as_json) as advance:
            records = send(world, units, sink, ledger, advance)
    _report(as_json, records=records, sent_again=again, seconds=time.monotonic() - started)


@generate_app.command()
def live(
    tps: Annotated[float, typer.Option(help="Records a second, over all entities.")] = 50.0,
    duration: Annotated[
        str | None, typer.Option("--for", help="How long, as 60s or 5m; without it until stopped.")
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Live traffic by the wall clock, all four entities. SIGTERM or Ctrl-C stops it after the current second."""
    if not 1 <= tps <= 100_000:
        raise UsageError(f"--tps {tps:g} is not between 1 and 100000")
    seconds = None if duration is None else _seconds(duration)
    settings = load_settings()
    world = world_of(settings)
    sink, ledger = _open(settings, out)
    clock = _WallClock()
    with ledger.writing():
        again = finish_unfinished(world, sink, ledger)
        today = world.day_of(int(clock.now()) * SECOND)
        if today < world.opened_on:
            raise UsageError(f"the shop opens on {world.opened_on}, which is to come: CRM_WORLD_OPENED_ON says so")
        with _progress(seconds, as_json) as advance:
            run = run_live(world, tps, seconds, sink, ledger, clock, lambda second, made: advance(1, made))
    _report(as_json, records=run.records, sent_again=again, seconds=run.seconds, started_at=run.started_at)


class _WallClock:
    """The real time; a signal ends a wait."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: self._stop.set())

    def now(self) -> float:
        return time.time()

    def wait_until(self, at: float) -> bool:
        return not self._stop.wait(max(0.0, at - time.time()))


def _open(settings: Settings, out: Path | None) -> tuple[Sink, Ledger]:
    if out is not None:
        return FileSink(out), Ledger(out / "made.jsonl")
    return KafkaSink(client_settings(settings)), Ledger(settings.ledger_file)


def _seconds(text: str) -> int:
    factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    if not factor or not text[:-1].isdigit() or text[:-1] == "0" * len(text[:-1]):
        raise UsageError(f"--for {text}: write a duration as 60s, 5m or 1h")
    return int(text[:-1]) * factor


@contextmanager
def _progress(total: int | None, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=as_json or not console.is_terminal) as progress:
        task = progress.add_task("0 records", total=total)
        records = 0

        def advance(units: int, made: int) -> None:
            nonlocal records
            records += made
            progress.update(task, advance=units, description=f"{records:,} records")

        yield advance


def _report(as_json: bool, **figures: float) -> None:
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        again = f" ({figures['sent_again']:,.0f} of an interrupted run sent again)" if figures["sent_again"] else ""
        typer.echo(f"{figures['records']:,.0f} records sent in {figures['seconds']:.1f} s{again}")


def register(app: typer.Typer) -> None:
    """Bring the commands of this package to `crm`."""
    app.add_typer(generate_app, name="generate", rich_help_panel="Source")
