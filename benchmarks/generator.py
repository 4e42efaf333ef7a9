"""How fast the world is made, against the least that such records cost, Faker row by row, and Kafka's own producer.

`… vs ceiling`: columns picked at random from pools, encoded by Polars, which is what any generator of such records
must at least do. `… vs faker`: one Faker call a field, one JSON object a row. `… vs perf-test`: Kafka's
ProducerPerformance with the same records as its payload, to the same broker, in the same run. CPU seconds are
those of one process, medians of several rounds, ours and the baseline in turns.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet
from confluent_kafka import Producer
from faker import Faker
from rich.console import Console

from data_generator.configured import world_of
from data_generator.encode import keys_of, lines_of, write_ndjson
from data_generator.world.config import DAY, World
from data_generator.world.records import Shop
from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.arrow import arrow_schema
from data_platform_core.errors import CrmError
from data_platform_core.ledger import stores
from data_platform_core.settings import Settings, load_settings
from home_server.benchmarks import Measure
from home_server.places import ROOT, jars
from home_server.toolchain import java, retrieve_jars

EVENTS_A_YEAR = 30_000_000
_CONTRACT = CONTRACTS["events"]


def run(settings: Settings, console: Console) -> list[Measure]:
    """All measures of the generator."""
    world = replace(
        world_of(settings),
        opened_on=date(2025, 11, 1),
        customers=200_000,
        products=2_000,
        events_per_day=EVENTS_A_YEAR // 365,
    )
    measures: list[Measure] = []
    for part in (_encoding, _length, _parquet, _workers, _kafka):
        console.print(f"[dim]{part.__name__.strip('_')} …[/dim]")
        measures += part(settings, world)
    return measures


# --- NDJSON -----------------------------------------------------------------------------------


def _encoding(settings: Settings, world: World) -> list[Measure]:
    shop, start = Shop(world), world.opened_at + 200 * DAY
    sample = shop.records("events", start, start + DAY)
    pools = {name: _pool(sample[name]) for name in sample.columns}
    rates: dict[str, list[float]] = {
        name: [] for name in ("ours", "ceiling", "json_encode", "objects", "faker", "sent")
    }
    encode = pl.struct(pl.all()).struct.json_encode()
    made_ready = io.BytesIO()  # used again and again: neither side is to wait for new memory

    def make(day: int) -> pl.DataFrame:
        return shop.records("events", start + day * DAY, start + (day + 1) * DAY)

    for day in range(1, 15):
        made_ready.seek(0)
        seconds = _cpu(lambda day: write_ndjson("events", make(day), made_ready), day)
        rows = _checked(bytes(made_ready.getbuffer()[: made_ready.tell()]))
        rates["ours"].append(rows / seconds)
        made_ready.seek(0)
        rates["ceiling"].append(rows / _cpu(lambda rows: _bare(pools, rows).write_ndjson(made_ready), rows))
        assert bytes(made_ready.getbuffer()[: made_ready.tell()]).count(b"\n") == rows
        rates["json_encode"].append(rows / _cpu(lambda rows: _bare(pools, rows).select(encode), rows))
        rates["objects"].append(_objects_rate(pools))
        rates["faker"].append(_faker_rate(day))
        rates["sent"].append(rows / _cpu(lambda day: _to_stand_in(make(day)), day))
    found = {name: statistics.median(each) for name, each in rates.items()}
    made, name = found["ours"], "full events as NDJSON, per CPU-second vs"
    return [
        Measure(f"{name} ceiling", made, "records/s", found["ceiling"], "higher", 0.6, of_ratio=True),
        Measure(f"{name} bare columns, struct.json_encode", made, "records/s", found["json_encode"], "higher"),
        Measure(f"{name} objects from pools, json.dumps", made, "records/s", found["objects"], "higher"),
        Measure(f"{name} faker", made, "records/s", found["faker"], "higher", 150, of_ratio=True),
        Measure("made and produced to a stand-in broker, per CPU-second", found["sent"], "records/s", None, "higher"),
    ]


def _objects_rate(pools: dict[str, pl.Series], rows: int = 20_000) -> float:
    values = {name: pool.to_list() for name, pool in pools.items()}
    draw = random.Random(1)

    def row() -> str:
        return json.dumps({name: draw.choice(pool) for name, pool in values.items()}, default=str)

    return rows / _cpu(lambda rows: [row() for _ in range(rows)], rows)


def _to_stand_in(records: pl.DataFrame) -> None:
    """To librdkafka's broker in this process, which keeps nothing."""
    producer = Producer(
        {
            "test.mock.num.brokers": 1,
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
        }
    )
    for key, value in zip(keys_of("events", records), lines_of("events", records), strict=True):
        producer.produce("events", value, key)
    assert producer.flush(60) == 0


def _pool(values: pl.Series) -> pl.Series:
    return values.sample(10_000, with_replacement=True, seed=1)


def _bare(pools: dict[str, pl.Series], rows: int) -> pl.DataFrame:
    draw = np.random.default_rng(1).integers
    return pl.DataFrame({name: pool.gather(draw(0, len(pool), rows)) for name, pool in pools.items()})


def _checked(lines: bytes) -> int:
    """The number of lines; some of them, at random, are held against the contract."""
    every = lines.split(b"\n")[:-1]
    for line in random.Random(1).sample(every, 500):
        _CONTRACT.model_validate_json(line)
    return len(every)


def _faker_rate(seed: int, rows: int = 2_000) -> float:
    fake = Faker("ko_KR")
    fake.seed_instance(seed)

    def row() -> str:
        at = fake.date_time(tzinfo=UTC)
        return json.dumps(
            {
                "schema_version": 1,
                "event_id": fake.hexify("^" * 32),
                "event_type": fake.random_element(("page_view", "click", "search", "add_to_cart", "purchase")),
                "visitor_id": fake.hexify("vis_" + "^" * 16),
                "customer_id": fake.hexify("cus_" + "^" * 16),
                "session_id": fake.hexify("ses_" + "^" * 16),
                "page_path": "/" + fake.uri_path(),
                "referrer": fake.url(),
                "device": fake.random_element(("mobile_web", "mobile_app", "desktop", "tablet")),
                "utm_source": fake.random_element(("naver", "google", "kakao")),
                "utm_medium": fake.random_element(("search_ad", "social")),
                "utm_campaign": fake.random_element(("brand_search", "lookbook")),
                "product_id": fake.hexify("prd_" + "^" * 16),
                "order_id": None,
                "occurred_at": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "sequence": int(at.timestamp()),
            }
        )

    return rows / _cpu(lambda rows: [row() for _ in range(rows)], rows)


def _cpu(work: Callable[[int], object], number: int) -> float:
    """Seconds of this process's CPU, all its threads together."""
    began = time.process_time()
    work(number)
    return time.process_time() - began


# --- length -----------------------------------------------------------------------------------


def _length(settings: Settings, world: World) -> list[Measure]:
    """A hundred million records against one million of them: the year must not cost more a record than its days.

    The million is made anew in the middle of each quarter of the year: a machine's speed changes while it runs.
    """
    busy = replace(world, events_per_day=100_000_000 // 365)
    quarter_day = DAY // 4

    def cost(shop: Shop, first: int, days: int) -> tuple[float, int]:
        rows, start = 0, busy.opened_at + first * DAY
        began = time.process_time()
        for low in range(start, start + days * DAY, quarter_day):
            rows += len(shop.records("events", low, low + quarter_day))
        return time.process_time() - began, rows

    def anew(first: int) -> Shop:
        shop, start = Shop(busy), busy.opened_at + first * DAY
        shop.records("events", start - quarter_day, start)  # what a first window needs
        return shop

    year, halves, short = anew(1), [], []
    for first in range(1, 361, 90):
        halves.append(cost(year, first, 45))
        seconds, rows = cost(anew(first + 45), first + 45, 4)
        short.append(seconds / rows * 1e9)
        halves.append(cost(year, first + 45, 45))
    rows = sum(rows for _, rows in halves)
    assert rows > 90_000_000
    long = sum(seconds for seconds, _ in halves) / rows * 1e9
    name = "cost of a record, of 100 million vs of 1 million"
    return [Measure(name, long, "ns", statistics.median(short), "lower", 1.1, of_ratio=True)]


# --- Parquet ----------------------------------------------------------------------------------


def _parquet(settings: Settings, world: World) -> list[Measure]:
    """A year to Parquet by the command line, against writing the same columns, already made, with pyarrow."""
    year = ("2025-11-01", "2026-10-31")
    with _folder(settings) as folder:
        both_cores = _generate(world, folder, "parquet", *year, "--workers", "2")
    with _folder(settings) as folder:
        alone = _generate(world, folder, "parquet", *year)
        assert alone.records == both_cores.records
        assert alone.records == sum(pyarrow.parquet.read_metadata(f).num_rows for f in folder.rglob("*.parquet"))
        rows, cpu, clock = 0, 0.0, 0.0
        for file in sorted((folder / "events").glob("*.parquet")):
            table = pyarrow.parquet.read_table(file).cast(arrow_schema(_CONTRACT))
            rows += table.num_rows
            began, cpu_began = time.monotonic(), time.process_time()
            pyarrow.parquet.write_table(table, folder / "again.parquet", compression="zstd")
            clock += time.monotonic() - began
            cpu += time.process_time() - cpu_began
    name = f"a year of {rows / 1e6:.0f} million events to Parquet"
    return [
        Measure(f"{name}, two workers", both_cores.seconds, "s", clock, "lower", 3.0, of_ratio=True),
        Measure(f"{name}, one worker", alone.cpu_seconds, "CPU-s", cpu, "lower"),
        Measure("peak memory of one worker's year", alone.peak_bytes / 2**30, "GiB", None, "lower", 1.0),
    ]


def _workers(settings: Settings, world: World) -> list[Measure]:
    """A quarter as NDJSON by one worker and by two, each with one thread: records a second of the clock."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(3):
        for workers, found in rates.items():
            with _folder(settings) as folder:
                run = _generate(world, folder, "ndjson", "2026-03-01", "2026-05-31", "--workers", str(workers))
                assert run.records == sum(file.read_bytes().count(b"\n") for file in folder.rglob("*.ndjson"))
                found.append(run.records / run.seconds)
    one, two = (statistics.median(rates[workers]) for workers in (1, 2))
    return [Measure("NDJSON by two workers vs one", two, "records/s", one, "higher", 1.8, of_ratio=True)]


@contextmanager
def _folder(settings: Settings) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=settings.home))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True)
class _Run:
    """What a run of the command line tells, and what it used."""

    records: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def _generate(world: World, folder: Path, kind: str, first: str, last: str, *more: str) -> _Run:
    """`crm generate backfill` to files, with one thread a process."""
    command = [
        str(Path(sys.executable).with_name("crm")), "generate", "backfill", "--from", first, "--to", last,
        "--customers", str(world.customers), "--events-per-day", str(world.events_per_day),
        "--out", str(folder), "--format", kind, "--json", *more,
    ]  # fmt: skip
    env = os.environ | {
        "CRM_WORLD_OPENED_ON": str(world.opened_on),
        "CRM_WORLD_PRODUCTS": str(world.products),
        "POLARS_MAX_THREADS": "1",
    }
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise CrmError(f"`{' '.join(command)}` failed")
    words = json.loads(told)
    return _Run(words["records"], words["seconds"], used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


# --- Kafka ------------------------------------------------------------------------------------


def _kafka(settings: Settings, world: World) -> list[Measure]:
    """The way to a real broker, acknowledged by all, beside Kafka's own producer with the same records."""
    tools = settings.home / "cache" / "benchmarks" / "kafka-tools"
    if not tools.exists():
        retrieve_jars(settings, ROOT / "benchmarks" / "kafka-tools.ivy.xml", tools.parent, "kafka-tools")
    with _folder(settings) as folder:
        env = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
        env |= {
            "CRM_HOME": str(settings.home), "CRM_STACK": str(folder / "stack"), "CRM_PORT_OFFSET": "23000",
            "CRM_WORLD_OPENED_ON": str(world.opened_on), "CRM_WORLD_CUSTOMERS": str(world.customers),
            "CRM_WORLD_PRODUCTS": str(world.products), "CRM_WORLD_EVENTS_PER_DAY": str(world.events_per_day),
        }  # fmt: skip
        crm = str(Path(sys.executable).with_name("crm"))
        subprocess.run([crm, "up", "kafka"], env=env, check=True, stdout=subprocess.DEVNULL)
        try:
            address = f"127.0.0.1:{9092 + 23_000}"
            ours, theirs = [], []
            for month in (1, 2, 3):
                before = _ends(address)
                words = ["generate", "backfill", "--from", f"2026-0{month}-01", "--to", f"2026-0{month}-28", "--json"]
                done = subprocess.run([crm, *words], env=env, check=True, stdout=subprocess.PIPE, text=True)
                told = json.loads(done.stdout)
                assert _ends(address) - before == told["records"]
                ours.append(told["records"] / told["seconds"])
                theirs.append(_perf_test(settings, world, tools, address, folder, month))
        finally:
            subprocess.run([crm, "reset", "--yes"], env=env, stdout=subprocess.DEVNULL)
    rate, theirs_rate = statistics.median(ours), statistics.median(theirs)
    return [
        Measure(
            "to Kafka, acks=all, records a second vs perf-test",
            rate,
            "records/s",
            theirs_rate,
            "higher",
            0.5,
            of_ratio=True,
        ),
        Measure("to Kafka, acks=all, records a second", rate, "records/s", None, "higher", 100_000),
    ]


def _perf_test(settings: Settings, world: World, tools: Path, address: str, folder: Path, month: int) -> float:
    payload = folder / "payload.ndjson"
    start = world.midnight(date(2026, month, 5))
    with payload.open("wb") as file:
        write_ndjson("events", Shop(world).records("events", start, start + DAY), file)
    command = [
        str(java(settings)), "-Xmx512m", "-cp", f"{tools}/*:{jars(settings, 'kafka')}/*",
        "org.apache.kafka.tools.ProducerPerformance", "--topic", "crm.events.v1", "--num-records", "2000000",
        "--throughput", "-1", "--payload-file", str(payload), "--producer-props", f"bootstrap.servers={address}",
        "acks=all", "compression.type=lz4", "linger.ms=20", "batch.size=1000000", "enable.idempotence=true",
    ]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(re.findall(r"([\d.]+) records/sec", done.stdout)[-1])


def _ends(address: str) -> int:
    settings = load_settings().model_copy(update={"kafka_bootstrap": address})
    return sum(stores.kafka_count(settings, entity) for entity in CONTRACTS)
