"""`crm generate`: make the shop's records and send them to Kafka or to files."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from data_generator.load import AfterStall
from data_generator.sinks import Format
from data_platform_core.cli.main import run
from data_platform_core.errors import UsageError

if TYPE_CHECKING:
    from data_generator.load.work import Piece
    from data_generator.world.load import Change

generate_app = typer.Typer(help="Make the shop's records: history or live, to Kafka or files.", no_args_is_help=True)

Out = Annotated[str | None, typer.Option(help="Write files into this folder or s3://bucket/prefix instead of Kafka.")]
FileFormat = Annotated[Format, typer.Option("--format", help="Of the files.")]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON at the end, nothing else.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Processes that make records.")]
Day = Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, the shop's.")]
Faults = Annotated[Path | None, typer.Option(help="Inject the faults of this plan; see its example.")]
Customers = Annotated[
    int | None,
    typer.Option(min=1, max=10_000_000, help="Customers at the end of the first year, instead of CRM_WORLD_CUSTOMERS."),
]
EventsPerDay = Annotated[
    int | None,
    typer.Option(min=1, max=1_000_000_000, help="Records of visits a day, instead of CRM_WORLD_EVENTS_PER_DAY."),
]


@generate_app.command()
def backfill(
    first: Day,
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day.")],
    customers: Customers = None,
    events_per_day: EventsPerDay = None,
    workers: Workers = 1,
    out: Out = None,
    format_: FileFormat = "ndjson",
    faults: Faults = None,
    as_json: AsJson = False,
) -> None:
    """History: whole days of everything. What was sent before is not sent again; a killed run is simply run again."""
    from data_generator.configured import made_world, sink_and_books
    from data_generator.faults.plan import read_plan
    from data_generator.load.live import close_run
    from data_generator.load.work import MASTERS, Recipe, blocks, master_windows, pieces, send, unfinished, window
    from data_generator.progress import Progress
    from data_generator.world.config import SECOND
    from data_platform_core.settings import load_settings

    settings = load_settings()
    world = made_world(settings, customers, events_per_day)
    today = world.day_of(int(time.time()) * SECOND)
    if last.date() >= today:
        raise UsageError(
            f"--to {last.date()} is not over yet (today is {today}): history goes up to the last whole day"
        )
    start, end = window(world, first.date(), last.date())
    plan = read_plan(faults) if faults else None
    sink, ledger, load = sink_and_books(settings, out, format_)
    started = time.monotonic()
    with ledger.writing():
        again = unfinished(world, sink, ledger)
        close_run(ledger, load)
        masters = pieces(ledger, master_windows(world, world.midnight(start)), MASTERS)
        visits = pieces(ledger, blocks(world, start, end))
        total = sum(piece.end - piece.start for piece in (*masters, *visits))
        profile = load.read()
        with Progress(total / SECOND, as_json) as progress:

            def on_piece(piece: Piece, records: int) -> None:
                progress.advance((piece.end - piece.start) / SECOND, records)

            recipe = Recipe.of(world, profile, sink, ledger, plan)
            sent_again = send(recipe, again, sink, ledger, workers)
            records = send(recipe, [*masters, *visits], sink, ledger, workers, on_piece)
    _report(as_json, records=records, sent_again=sent_again, seconds=time.monotonic() - started)


@generate_app.command()
def book(
    out: Annotated[str, typer.Argument(help="The folder, or s3://bucket/prefix, that --out wrote.")],
    first: Day,
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day.")],
    entities: Annotated[list[str] | None, typer.Argument(help="Which entities; all without it.")] = None,
) -> None:
    """Count files that `crm backfill` has landed as made, so that `crm audit` expects their records."""
    from data_generator.configured import books, world_of
    from data_generator.faults.plan import kept_plan
    from data_generator.load.work import MASTERS, Piece, Recipe, check_world, send, window
    from data_generator.sinks.booked import BookedSink
    from data_platform_core.contracts import known_entities
    from data_platform_core.settings import load_settings

    chosen, settings = known_entities(entities or ()), load_settings()
    world = world_of(settings)
    start, end = (world.midnight(day) for day in window(world, first.date(), last.date()))
    files, load = books(settings, out)
    if not files.path.exists():
        typer.echo(f"{out} has no ledger: its files were not made by `crm generate`, and none is counted")
        return
    check_world(world, files)
    ledger, _ = books(settings, None)
    sink = BookedSink()
    with ledger.writing():
        check_world(world, ledger)
        sent, missing = files.sent_units(), ledger.missing()
        units = [unit for unit in files.begun_units() if unit.id in sent and unit.entity in chosen]
        for faults in {unit.faults for unit in units} - {""}:
            sink.check_faults(kept_plan(files.path.parent, faults))
        parts = [
            Piece((unit.entity,), low, high)
            for unit in units
            if unit.start < end and (unit.end > start or unit.entity in MASTERS)  # those are needed whole
            for low, high in missing(unit.entity, unit.start, unit.end)
        ]
        records = send(Recipe.of(world, load.read(), sink, ledger), parts, sink, ledger, 1)
    typer.echo(f"{records:,} records of files are counted as made, beside those that were")


@generate_app.command()
def live(
    tps: Annotated[float, typer.Option(help="Records of visits a second.")] = 50.0,
    duration: Annotated[
        str | None, typer.Option("--for", help="How long, as 60s or 5m; without it until stopped.")
    ] = None,
    after_stall: Annotated[AfterStall, typer.Option(help="What to do with seconds that were missed.")] = "catch-up",
    out: Out = None,
    format_: FileFormat = "ndjson",
    faults: Faults = None,
    as_json: AsJson = False,
) -> None:
    """Live traffic by the wall clock. SIGTERM or Ctrl-C stops it after the current second; `rate` changes its rate."""
    from data_generator.world.load import Change

    seconds = None if duration is None else _seconds("--for", duration)
    _run([Change(0, _rate("--tps", tps))], seconds, after_stall, out, format_, faults, as_json)


@generate_app.command()
def rate(tps: Annotated[float, typer.Argument(help="Records of visits a second.")], out: Out = None) -> None:
    """Change the rate of the live run that is going on, from the next second on."""
    from data_generator.configured import books
    from data_generator.load.live import change_rate
    from data_platform_core.settings import load_settings

    settings = load_settings()
    change_rate(*books(settings, out), _rate("TPS", tps))
    typer.echo(f"{tps:g} records a second from the next second on")


@generate_app.command()
def spike(
    from_tps: Annotated[float, typer.Option(help="Records a second before.")] = 50.0,
    to_tps: Annotated[float, typer.Option(help="Records a second at the peak.")] = 3_000.0,
    shape: Annotated[
        Literal["ramp", "step", "flash-sale"], typer.Option(help="How it rises; a flash sale also ebbs away.")
    ] = "ramp",
    lead: Annotated[str, typer.Option(help="How long before it rises.")] = "10s",
    ramp: Annotated[str, typer.Option(help="How long it rises.")] = "30s",
    hold: Annotated[str, typer.Option(help="How long it holds.")] = "5m",
    out: Out = None,
    format_: FileFormat = "ndjson",
    faults: Faults = None,
    as_json: AsJson = False,
) -> None:
    """Live traffic that rises to a peak and holds it."""
    from data_generator.world.load import Change

    low, high = _rate("--from-tps", from_tps), _rate("--to-tps", to_tps)
    before, rise, peak = (_seconds(f"--{n}", t) for n, t in (("lead", lead), ("ramp", ramp), ("hold", hold)))
    rise = 0 if shape == "step" else rise
    rates = [Change(0, low), Change(before, high, ramp=rise, from_tps=low)]
    length = before + rise + peak
    if shape == "flash-sale":
        rates.append(Change(length, low, ramp=peak, from_tps=high))
        length += peak
    _run(rates, length, "catch-up", out, format_, faults, as_json)


@generate_app.command()
def replay(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="The shop's time.")],
    end: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="Up to before this.")],
    speed: Annotated[float, typer.Option(help="Seconds of the world a second.")] = 60.0,
    out: Out = None,
    format_: FileFormat = "ndjson",
    faults: Faults = None,
    as_json: AsJson = False,
) -> None:
    """A window of the world, faster or slower than it happened. What was sent before is sent again."""
    from data_generator.configured import made_world, sink_and_books
    from data_generator.faults.plan import read_plan
    from data_generator.load.live import close_run
    from data_generator.load.replay import run_replay
    from data_generator.load.work import Recipe, send, unfinished, window
    from data_generator.progress import Progress
    from data_generator.world.config import SECOND
    from data_platform_core.settings import load_settings

    if not 0.01 <= speed <= 1_000_000:
        raise UsageError(f"--speed {speed:g} is not between 0.01 and 1000000")
    settings = load_settings()
    world = made_world(settings)
    start, stop = (world.moment(at) for at in (first, end))
    if stop <= start:
        raise UsageError(f"the window ends ({end}) before it has begun ({first}): --to must be after --from")
    if stop > time.time() * SECOND:
        raise UsageError(f"--to {end} is still to come: only what has happened can be replayed")
    window(world, world.day_of(start), world.day_of(stop))
    sink, ledger, load = sink_and_books(settings, out, format_)
    plan = read_plan(faults) if faults else None
    clock = _WallClock()
    began = time.monotonic()
    with ledger.writing(), Progress((stop - start) / SECOND, as_json) as progress:
        sent_again = send(
            Recipe.of(world, load.read(), sink, ledger, plan), unfinished(world, sink, ledger), sink, ledger
        )
        close_run(ledger, load)

        def on_tick(at: int, records: int) -> None:
            progress.reach((at - start) / SECOND, records)

        records = run_replay(world, load.read(), start, stop, speed, sink, ledger, clock, plan, on_tick)
    _report(as_json, records=records, sent_again=sent_again, seconds=time.monotonic() - began)


@generate_app.command(name="manifest")
def print_manifest(
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="The shop's time.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="Up to before this.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Of the files in this folder or s3://bucket/prefix.")] = None,
) -> None:
    """What was made, by entity and minute, as lines of JSON: made again, and held against the ledger."""
    from data_generator.configured import books, world_of
    from data_generator.load.work import check_world
    from data_generator.manifest import manifest
    from data_platform_core.settings import load_settings

    settings = load_settings()
    world = world_of(settings)
    start = world.moment(first) if first else world.opened_at
    stop = world.moment(end) if end else world.closes_at
    if stop <= start:
        raise UsageError(f"the window ends ({end}) before it has begun ({first}): --to must be after --from")
    ledger, load = books(settings, out)
    if not ledger.path.exists():
        raise UsageError(f"there is no ledger {ledger.path}: nothing was made yet, or --out names another folder")
    check_world(world, ledger)
    for minute in manifest(world, load.read(), ledger, start, stop):
        typer.echo(json.dumps(minute.row()))


@generate_app.command(name="cohorts")
def print_cohorts(
    day: Annotated[datetime, typer.Option("--on", formats=["%Y-%m-%d"], help="At the end of this day of the shop.")],
    as_json: AsJson = False,
) -> None:
    """How many customers are new, active, returning and churned, and the retention beside its contract."""
    import numpy as np

    from data_generator.configured import world_of
    from data_generator.world.cohorts import COHORTS, cohorts, retention
    from data_platform_core.settings import load_settings

    world = world_of(load_settings())
    number = (day.date() - world.opened_on).days
    if not 0 <= number < len(world.day_starts):
        raise UsageError(
            f"--on {day.date()} is outside the world's calendar, which goes from {world.opened_on} to {world.closes_on}"
        )
    counts = dict(zip(COHORTS, np.bincount(cohorts(world, number), minlength=len(COHORTS)).tolist(), strict=True))
    realised = retention(world, number)
    if as_json:
        typer.echo(json.dumps({"cohorts": counts, "retention": [asdict(each) for each in realised]}))
        return
    for name, count in counts.items():
        typer.echo(f"{name:<10}{count:>10,}  {count / max(sum(counts.values()), 1):6.1%}")
    for each in realised:
        says = "within" if each.holds else "outside"
        typer.echo(
            f"D{each.age:<9}{each.share:>10.2%}  of {each.customers:,} sign-ups: "
            f"{says} the 99% interval of the contract, {each.contract:.2%} ± {each.margin:.2%}"
        )


def _run(
    rates: list[Change],
    seconds: int | None,
    after_stall: AfterStall,
    out: str | None,
    format_: Format,
    faults: Path | None,
    as_json: bool,
) -> None:
    from data_generator.configured import made_world, sink_and_books
    from data_generator.faults.plan import read_plan
    from data_generator.load.live import run_live
    from data_generator.load.work import Recipe, send, unfinished
    from data_generator.progress import Progress
    from data_platform_core.settings import load_settings

    settings = load_settings()
    world = made_world(settings)
    plan = read_plan(faults) if faults else None
    sink, ledger, load = sink_and_books(settings, out, format_)
    clock = _WallClock()
    with ledger.writing(), Progress(seconds, as_json) as progress:
        again = send(Recipe.of(world, load.read(), sink, ledger, plan), unfinished(world, sink, ledger), sink, ledger)
        run = run_live(world, rates, seconds, sink, ledger, load, clock, after_stall, plan, progress.reach)
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


def _rate(option: str, tps: float) -> float:
    if not 0 < tps <= 100_000:
        raise UsageError(f"{option} {tps:g} is not above 0 and up to 100000")
    return tps


def _seconds(option: str, text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([smh])", text)
    seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0
    if not 0 < seconds <= 365 * 86_400:
        raise UsageError(f"{option} {text}: write a duration as 60s, 5m or 1h, of up to a year")
    return seconds


def _report(as_json: bool, **figures: float) -> None:
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        again = f" ({figures['sent_again']:,.0f} of an interrupted run sent again)" if figures["sent_again"] else ""
        typer.echo(f"{figures['records']:,.0f} records sent in {figures['seconds']:.1f} s{again}")


def main() -> None:
    """`crm-generate`: the same commands where only this package is installed."""
    run(generate_app)


def register(app: typer.Typer) -> None:
    """Bring the commands of this package to `crm`."""
    app.add_typer(generate_app, name="generate", rich_help_panel="Source")
