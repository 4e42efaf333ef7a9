"""The warehouse under load: ten million events from silver into PostgreSQL and on to all marts.

On a stack of its own with PostgreSQL only; silver is written here, by delta-rs, from the world's own files.

- `first load`, `replay`: `publish` of the whole, client and server together, with key and indexes, against
  PostgreSQL's own `COPY` of the same rows as CSV into a table without a key; medians of three rounds, in turns, each
  begun with nothing left to write.
- `to all marts`: the same load and `dbt run` of all models, against the same `COPY`.
- `a day's increment`: a day more, publish and `dbt run`, against the full refresh of all models; the median of three
  days, one of which is the first of a month, when segments change. What autovacuum would do since the day before is
  done first (`vacuum analyze`), not beside it.
- `CPU of dbt's own process`: what a run of all models with nothing new costs beside the warehouse's work, against a
  run of one view; medians of three.

Told beside them: what a day's gate takes, that of all, and `dbt build`, which tests as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import polars as pl
import psycopg
import pyarrow.dataset as ds
from deltalake import DeltaTable, write_deltalake
from parts.stacks import crm, own_stack
from rich.console import Console

from data_platform_core.contracts import CONTRACTS, GENERATED
from data_platform_core.derive.arrow import arrow_schema
from data_platform_core.errors import CrmError
from data_platform_core.layers import published_table
from data_platform_core.settings import Settings
from data_platform_core.warehouse import DATABASE, connect
from data_platform_core.windows import fix_window
from home_server.benchmarks import Measure
from home_server.environment import admin_dsn, process_environment
from home_server.places import ROOT, env_bin
from spark_jobs.batch.publish import apply

FIRST, LAST, NEXT = "2025-11-01", "2026-10-30", ("2026-10-31", "2026-11-01", "2026-11-02")
ROUNDS = 3
OTHERS = tuple(entity for entity in GENERATED if entity != "events")
EVENTS_PER_DAY = 28_000
"""In the shop's first year, which grows: ten million in the year."""


def run(settings: Settings, console: Console) -> list[Measure]:
    """Measure all of it; takes about half an hour."""
    with own_stack(settings, EVENTS_PER_DAY, customers=100_000, components=("postgres",)) as own:
        folder = own.stack_dir / "files"
        _make(own, folder, FIRST, LAST)
        rows = DeltaTable(str(own.stack_dir / "silver" / "events")).to_pyarrow_dataset().count_rows()
        file = _as_csv(own)
        copied, loaded, replayed = _medians(
            [_copy_and_publish(own, file, rows, f"round-{number}") for number in range(ROUNDS)]
        )
        others = {entity: _publish(own, "first", entity) for entity in OTHERS}
        modelled = _timed(lambda: _dbt(own, "run"))
        _at_rest(own, "vacuum analyze")
        refreshed = _timed(lambda: _dbt(own, "run", "--full-refresh"))
        all_looked = _timed(lambda: crm("gate", "--run", "all"))
        published, looked, increment = _medians([_one_day_more(own, folder, day) for day in NEXT])
        idle, own_cpu = _medians([_idle(own) for _ in range(ROUNDS)])
        built = _timed(lambda: _dbt(own, "build"))
        _, one_cpu = _medians([_idle(own, "--select", "stg_lake__profiles") for _ in range(ROUNDS)])
    told = {"COPY": copied, "publish events": loaded, "replay": replayed,
            **{f"publish {name}": seconds for name, seconds in others.items()}, "models": modelled,
            "full refresh": refreshed, "gate of all": all_looked, "a day: publish": published, "a day: gate": looked,
            "a day: models": increment, "models, nothing new": idle, "build and test all": built}  # fmt: skip
    console.print("[dim]" + ", ".join(f"{name} {seconds:,.1f} s" for name, seconds in told.items()) + "[/dim]")
    whole = loaded + sum(others.values()) + modelled
    return [
        Measure(f"first load of {rows:,} events", loaded, "s", copied, "lower", 1.5, True),
        Measure("replay of all of them", replayed, "s", copied, "lower", 2.0, True),
        Measure("silver to all marts", whole, "s", copied, "lower", 15.0, True),
        Measure("a day's increment of all models", increment, "s", refreshed, "lower", 0.1, True),
        Measure("CPU of dbt's own process, a run of all models", own_cpu, "s", one_cpu, "lower", 5.0),
    ]


def _copy_and_publish(own: Settings, file: Path, rows: int, name: str) -> tuple[float, float, float]:
    """Seconds of a COPY, of a first load and of a replay of all events."""
    with psycopg.connect(admin_dsn(own), dbname=DATABASE) as connection:  # as if nothing had been published
        connection.execute("truncate lake.events, lake.deleted_keys, ops.publish_marks, ops.publish_runs")
    _at_rest(own)
    copied = _copied(own, file, rows)
    _at_rest(own)
    loaded = _publish(own, f"{name}-first", "events")
    _at_rest(own)
    return copied, loaded, _publish(own, f"{name}-again", "events", whole=True)


def _one_day_more(own: Settings, folder: Path, day: str) -> tuple[float, float, float]:
    """Seconds that publishing a day takes, its gate, and building all models with it."""
    _make(own, folder, day, day)
    _at_rest(own, "vacuum analyze")
    published = sum(_publish(own, day, entity) for entity in GENERATED)
    looked = _timed(lambda: crm("gate", "--run", day))
    return published, looked, _timed(lambda: _dbt(own, "run"))


def _idle(own: Settings, *chosen: str) -> tuple[float, float]:
    """Seconds of a run of models with nothing new, and of its own CPU."""
    before = os.times()
    idle = _timed(lambda: _dbt(own, "run", *chosen))
    after = os.times()
    return idle, after.children_user + after.children_system - before.children_user - before.children_system


def _make(own: Settings, folder: Path, first: str, last: str) -> None:
    """Make days of the world and append them to silver."""
    crm(
        "generate",
        "backfill",
        "--from",
        first,
        "--to",
        last,
        "--out",
        str(folder),
        "--format",
        "parquet",
        "--workers",
        "2",
    )
    for entity in GENERATED:
        files = ds.dataset(str(folder / entity), format="parquet", exclude_invalid_files=False)
        columns = {name: ds.field(name) for name in arrow_schema(CONTRACTS[entity]).names}
        if CONTRACTS[entity].is_master:
            columns["effective_at"] = ds.field("occurred_at")
        write_deltalake(
            str(own.stack_dir / "silver" / entity), files.scanner(columns=columns).to_reader(), mode="append",
            configuration={"delta.enableChangeDataFeed": "true"},
        )  # fmt: skip
        shutil.rmtree(folder / entity)


def _as_csv(own: Settings) -> Path:
    target = own.stack_dir / "events.csv"
    pl.scan_delta(str(own.stack_dir / "silver" / "events")).sink_csv(target)
    return target


def _copied(own: Settings, file: Path, rows: int) -> float:
    """Seconds of PostgreSQL's own COPY of a file into a bare table."""
    table = published_table("events")
    with psycopg.connect(admin_dsn(own), dbname=DATABASE) as server:  # the publisher may make no tables
        server.execute(f"create table lake.bare (like {table})")  # type: ignore[arg-type]
        server.execute("alter table lake.bare drop column published_batch, drop column published_at")
        server.commit()
        started = time.monotonic()
        statement = "copy lake.bare from stdin with (format csv, header)"
        with file.open("rb") as source, server.cursor().copy(statement) as target:
            while part := source.read(2**20):
                target.write(part)
        server.commit()
        seconds = time.monotonic() - started
        held = server.execute("select count(*) from lake.bare").fetchone()
        server.execute("drop table lake.bare")
    if held != (rows,):
        raise CrmError(f"{rows:,} rows in, {held} out: no figure counts")
    return seconds


def _publish(own: Settings, run_id: str, entity: str, whole: bool = False) -> float:
    """Seconds that a publish takes."""
    with connect(own) as connection:
        table = DeltaTable(str(own.stack_dir / "silver" / entity))
        started = time.monotonic()
        done = apply(connection, run_id, fix_window(connection, table, run_id, entity, whole), table)
        seconds = time.monotonic() - started
        count = connection.execute(f"select count(*) from {published_table(entity)}").fetchone()  # type: ignore[arg-type]
    held = table.to_pyarrow_dataset().count_rows()
    if (entity == "events" and not done.rows_written) or count != (held,):  # a day may change no product
        raise CrmError(f"{held:,} rows of {entity} in silver, {count} published: no figure counts")
    return seconds


def _dbt(own: Settings, *words: str) -> None:
    done = subprocess.run(
        [env_bin(own, "dbt", "dbt"), *words], cwd=ROOT / "dbt", env=process_environment(own), capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode:
        raise CrmError(f"dbt {' '.join(words)} failed: {done.stdout[-3000:]}")


def _at_rest(own: Settings, *first: str) -> None:
    """Nothing that was done before is written, or cleared up, beside what is timed next."""
    with psycopg.connect(admin_dsn(own), dbname=DATABASE, autocommit=True) as connection:
        for statement in (*first, "checkpoint"):
            connection.execute(statement)  # type: ignore[arg-type]
    os.sync()


def _medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [median(each) for each in zip(*rounds, strict=True)]


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started
