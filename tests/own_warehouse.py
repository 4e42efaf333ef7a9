"""A warehouse of a test's own, and the silver that it is published from: made by the world, written here."""

import json
import subprocess
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from conftest import ROOT
from deltalake import DeltaTable, write_deltalake

from data_generator.configured import world_of
from data_generator.world.records import Shop
from data_platform_core.contracts import CONTRACTS, GENERATED
from data_platform_core.derive.canonical import digest_of_frame
from data_platform_core.ledger.stores import published_digest
from data_platform_core.warehouse import connect
from data_platform_core.windows import fix_window
from home_server.environment import process_environment
from home_server.places import env_bin
from spark_jobs.batch.publish import apply

DAYS = 8
LATE_SHARE = 0.01


class Warehouse:
    """A warehouse of its own, and the silver tables that it is published from."""

    def __init__(self, settings, folder):
        self._settings, self._folder = settings, folder

    def append(self, entity, records):
        if CONTRACTS[entity].is_master and "effective_at" not in records.columns:
            records = records.with_columns(effective_at="occurred_at")
        if len(records):
            write_deltalake(
                self._place(entity), records.to_arrow(), mode="append",
                configuration={"delta.enableChangeDataFeed": "true"},
            )  # fmt: skip

    def delete(self, entity, condition):
        self.silver(entity).delete(condition)

    def publish(self, run_id, whole=False, entities=GENERATED):
        """Publish; returns how many rows changed."""
        with connect(self._settings) as connection:
            tables = {entity: self.silver(entity) for entity in entities}
            windows = {e: fix_window(connection, table, run_id, e, whole) for e, table in tables.items()}
            return sum(apply(connection, run_id, windows[e], table).rows_written for e, table in tables.items())

    def silver(self, entity):
        return DeltaTable(self._place(entity))

    def held(self, entity, names):
        """Which values of these columns silver has, in order."""
        table = self.silver(entity).to_pyarrow_dataset().to_table(columns=names)
        return sorted(pl.DataFrame(table).drop_nulls().unique().rows())

    def is_silver(self, entity):
        """Whether what is published of an entity is what silver has, record by record."""
        contract = CONTRACTS[entity]
        held = pl.DataFrame(self.silver(entity).to_pyarrow_table()).select(list(contract.model_fields))
        with connect(self._settings) as connection:
            return published_digest(connection, entity) == digest_of_frame(contract, held)

    def dbt(self, *words, project=ROOT / "dbt", fails=False, target=None):
        """Run dbt; `fails` says whether it is to fail. One with a target of its own may run beside others, and fail."""
        if target:
            command = [env_bin(self._settings, "dbt", "dbt"), *words]
            environment = process_environment(self._settings) | {"DBT_TARGET_PATH": str(self._folder / target)}
            subprocess.run(command, cwd=project, capture_output=True, env=environment)
            return
        shell = _dbt_shell(self._settings)
        succeeded = shell.run(words, project, shell.target if project == ROOT / "dbt" else self._folder / "target")
        assert succeeded != fails, shell.output()[-6000:]

    def artifact(self, name):
        """A file that dbt's last command has left, as text."""
        return (_dbt_shell(self._settings).target / name).read_text()

    def models(self):
        """The rows of every model, by its name."""
        with connect(self._settings, "crm_dbt") as connection:
            tables = connection.execute(
                "select schemaname || '.' || tablename from pg_tables where schemaname in ('warehouse', 'marts')"
            ).fetchall()
        return {name: self.rows(name) for (name,) in sorted(tables)}

    def row(self, query, *values):
        """The one row of a query."""
        with connect(self._settings, "crm_dbt") as connection:
            return connection.execute(query, values or None).fetchone()

    def rows(self, table):
        """The rows of a table, as text, without regard to their order."""
        with connect(self._settings, "crm_dbt") as connection:
            return [row[0] for row in connection.execute(f"select t::text from {table} as t order by 1")]

    def _place(self, entity):
        return str(self._folder / entity)


class _DbtShell:
    """A process that runs one command of dbt after the other; what it has parsed of the project it keeps in a folder."""

    def __init__(self, settings):
        self._folder = TemporaryDirectory()
        self.target = Path(self._folder.name) / "target"
        self._output = Path(self._folder.name) / "output"
        self._process = subprocess.Popen(
            [env_bin(settings, "dbt", "python"), str(Path(__file__).with_name("dbt_shell.py"))],
            env=process_environment(settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, words, project, target):
        """Whether a command succeeds, in a project, with a folder for what it makes."""
        for made in (*target.glob("*.json"), *target.glob("*.html")):  # by the command before
            made.unlink()
        request = {"words": words, "folder": str(project), "target": str(target), "output": str(self._output)}
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def output(self):
        """What the last command printed."""
        return self._output.read_text()


@cache
def _dbt_shell(settings):
    return _DbtShell(settings)


def days(settings, count=DAYS):
    """The world's records by the day on which they arrive: one in a hundred comes up to three days late, as does a
    version of a customer who was active since."""
    return _days(world_of(settings), count)


@cache
def _days(world, count):
    shop, first = Shop(world), world.opened_on + timedelta(days=58)  # over the first of a month, on which grades change
    found = []
    for number in range(count):
        start = world.opened_at if number == 0 else world.midnight(first + timedelta(days=number))
        end = world.midnight(first + timedelta(days=number + 1))
        visits = world.midnight(first + timedelta(days=number))
        found.append({
            entity: shop.records(entity, start if entity in ("products", "profiles") else visits, end)
            for entity in GENERATED
        })  # fmt: skip
    for entity in GENERATED:
        held_back = pl.DataFrame(schema=found[0][entity].schema)
        for number, day in enumerate(found):
            is_late = pl.int_range(pl.len()) % int(1 / LATE_SHARE) == 7 if number < count - 1 else pl.lit(False)
            marked = day[entity].with_columns(is_late=is_late)
            on_time = marked.filter(~pl.col("is_late")).drop("is_late")
            late, held_back = held_back, marked.filter("is_late").drop("is_late")
            if number % 3 != 2 and number < count - 1:  # then it waits for another day
                held_back, late = pl.concat([held_back, late]), late.clear()
            day[entity] = pl.concat([on_time, late])
    return found
