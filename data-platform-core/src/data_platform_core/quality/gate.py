"""The gates: Great Expectations suites derived from the contracts, and the laws between tables.

`silver` looks at what a publish run is about to take, before it does; `published` at what came to PostgreSQL since the
gate was open last, before any model is built of it, or at all of it. Verdicts are kept in `ops.gate_results` and as
Data Docs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg2.extensions import set_wait_callback
from psycopg2.extras import wait_select
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from data_platform_core.contracts import CONTRACTS, ENTITIES, Record
from data_platform_core.derive.expectations import Expectation, expectations_of
from data_platform_core.derive.fields import published_fields_of
from data_platform_core.errors import ComponentFailed, GateFailed
from data_platform_core.layers import published_table
from data_platform_core.ledger.stores import open_table, read_errors
from data_platform_core.quality.docs import name_of, new_context, pages, remove_old_pages, write_page
from data_platform_core.quality.laws import breaches, laws_of
from data_platform_core.settings import Settings
from data_platform_core.warehouse import PUBLISHER, connect, sqlalchemy_url
from data_platform_core.windows import (
    Window,
    changes_taken,
    check_never_published,
    fix_window,
    is_published,
    rows_taken,
)

if TYPE_CHECKING:
    import polars as pl

Gate = Literal["silver", "published"]
_SHOWN_ROWS = 20
_ROWS_AT_ONCE = 500_000
_QUARANTINE_HOURS = 24
_RESULTS_KEPT = "interval '90 days'"
_PLACE = ["kafka_topic", "kafka_partition", "kafka_offset"]


@dataclass(frozen=True)
class Verdict:
    """What one expectation said of one table."""

    layer: Gate
    entity: str
    expectation: str
    column: str | None
    success: bool
    failed_rows: int
    failed_keys: tuple[dict[str, Any], ...]
    says: str = ""

    def __str__(self) -> str:
        table = published_table(self.entity) if self.layer == "published" else f"silver of {self.entity}"
        where = f"{table}.{self.column}" if self.column else table
        if self.says:
            return f"{self.expectation} on {where}: {self.says}"
        keys = ", ".join("/".join(map(str, key.values())) for key in self.failed_keys)
        return f"{self.expectation} on {where}: {self.failed_rows:,} rows, among them {keys or 'no key known'}"


@dataclass(frozen=True)
class Opened:
    """An open gate: how many expectations were met, and the page that shows them."""

    expectations: int
    page: str


def run_gate(
    settings: Settings, run_id: str, layer: Gate, entities: Iterable[str] = ENTITIES, whole: bool = False
) -> Opened:
    """Check a layer, and keep the verdicts.

    Args:
        whole: look at all that is published, not only at what came since the gate was open last; what a gate of new
            rows has not let through stays to be looked at.

    Raises:
        GateFailed: an expectation is not met; says which, on which rows, and where the page is.
        ComponentFailed: the warehouse or the lake is out of reach.
        CrmError: what silver has is not what was published before.
    """
    try:
        with connect(settings) as connection:  # first of all: its error is a sentence
            connection.autocommit = True  # what the run takes is fixed for good before it is read
            validator = _Validator(settings, run_id, layer)
            reached = {}
            for entity in entities:
                if layer == "silver":
                    with read_errors(f"silver of {entity}"):
                        validator.silver(connection, entity)
                else:
                    reached[entity] = validator.published(connection, entity, whole)
            verdicts = validator.verdicts
            _keep(connection, run_id, verdicts)
            failed = [verdict for verdict in verdicts if not verdict.success]
            if not failed and not whole:  # of all rows a budget is larger than of those that are new
                _open(connection, reached)
    except (psycopg.Error, SQLAlchemyError, ConnectionError) as error:
        said = str(getattr(error, "orig", error)).strip()  # SQLAlchemy's own words hold the statement, too
        raise ComponentFailed(f"the warehouse stopped the gate: {said}; nothing was let through") from None
    page = write_page(settings, run_id, layer, _table(settings, layer, verdicts, validator.data_docs))
    remove_old_pages(settings)
    if failed:
        raise GateFailed(f"the gate of {layer} is closed:\n  " + "\n  ".join(map(str, failed)) + f"\nthe page: {page}")
    return Opened(len(verdicts), page)


class _Validator:
    """Runs suites under one run's name, and gathers what they said."""

    def __init__(self, settings: Settings, run_id: str, layer: Gate) -> None:
        self.verdicts: list[Verdict] = []
        self.data_docs: dict[str, Path] = {}
        """Of each entity, the page of Data Docs of the first rows that failed, or else of the last."""
        self._settings, self._run_id, self._layer = settings, run_id, layer
        self._context = new_context(settings)

    def silver(self, connection: psycopg.Connection, entity: str) -> None:
        """Check what the run is about to take of an entity, and how much of it was refused."""
        contract = CONTRACTS[entity]
        table = open_table(self._settings, "silver", entity)
        if table is None:
            return check_never_published(connection, entity)
        window = fix_window(connection, table, self._run_id, entity)
        asset = self._context.data_sources.add_pandas(f"silver_{entity}").add_dataframe_asset(entity)
        batch = asset.add_batch_definition_whole_dataframe("rows")
        names = _flat_names(contract)
        suite = self._suite(
            entity, [e for e in expectations_of(contract) if e.arguments.get("column", names[0]) in names]
        )
        # what is published is not read again: files of old changes may be gone by now
        if not is_published(connection, self._run_id, window):
            for frame in _taken(table, window, contract):
                self._check(contract, suite, batch, {"dataframe": frame.to_pandas()})
        self.verdicts.append(_refused(connection, self._settings, entity))
        return None

    def published(self, connection: psycopg.Connection, entity: str, whole: bool) -> int:
        """Check what came of an entity since the gate was open last, or all of it; returns the batch it is at."""
        contract, table = CONTRACTS[entity], published_table(entity)
        marks = connection.execute(
            "select coalesce((select published_batch from ops.publish_marks where entity = %(entity)s), 0),"
            " coalesce((select published_batch from ops.gate_marks where entity = %(entity)s), 0)",
            {"entity": entity},
        ).fetchone()
        assert marks is not None
        reached, opened = marks
        if opened and not whole:
            rows = f"select * from {table} where published_batch > {opened}"
            asset = self._warehouse(table, create_temp_table=True).add_query_asset(entity, query=rows)
        else:  # not as a query, whose rows would all be fetched for the names of their columns
            rows = f"select * from {table}"
            schema, name = table.split(".")
            asset = self._warehouse(table).add_table_asset(entity, table_name=name, schema_name=schema)
        batch = asset.add_batch_definition_whole_table("rows")
        budget = self._settings.gate_law_budget
        queries = {law.name: breaches(law, contract.key, budget) for law in laws_of(entity)}
        laws = [
            Expectation("unexpected_rows_expectation", {
                "unexpected_rows_query": queries[law.name],
                "description": law.says,
                "meta": {"law": law.name},
            })
            for law in laws_of(entity)
        ]  # fmt: skip
        suite = self._suite(entity, [*expectations_of(contract), *laws])
        self._check(contract, suite, batch, None)
        self.verdicts = [
            # Great Expectations tells how many rows break a law, and not which
            replace(one, failed_keys=_keys(connection, contract, queries[one.expectation], rows))
            if one.expectation in queries and not one.success and not one.says
            else one
            for one in self.verdicts
        ]
        return int(reached)

    def _warehouse(self, name: str, **arguments: Any) -> Any:
        """The warehouse as a source of Great Expectations."""
        set_wait_callback(wait_select)  # in libpq it would not hear that its task is to end, until a query does
        url = sqlalchemy_url(self._settings, PUBLISHER, self._settings.secret("publisher_password"))
        return self._context.data_sources.add_postgres(name, connection_string=url, **arguments)

    def _suite(self, entity: str, expectations: list[Expectation]) -> Any:
        import great_expectations as gx
        from great_expectations.expectations.registry import get_expectation_impl

        # all at once: a suite that is added to is stored anew for each
        made = [get_expectation_impl(one.name)(**one.arguments) for one in expectations]
        return self._context.suites.add(gx.ExpectationSuite(name=f"{self._layer}_{entity}", expectations=made))

    def _check(self, contract: type[Record], suite: Any, batch: Any, parameters: dict[str, Any] | None) -> None:
        import great_expectations as gx
        from great_expectations.checkpoint.actions import UpdateDataDocsAction
        from great_expectations.core.run_identifier import RunIdentifier

        rows_as_well = {
            "result_format": "SUMMARY",
            "partial_unexpected_count": _SHOWN_ROWS,
            "unexpected_index_column_names": list(contract.key),
        }
        # counted first, most of it in one pass; to ask for the rows of each expectation takes two passes more for each
        for result_format in ({"result_format": "BOOLEAN_ONLY"}, rows_as_well):
            name = f"{suite.name}_{len(self._context.checkpoints.all())}"
            definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
            checkpoint = gx.Checkpoint(
                name=name,
                validation_definitions=[self._context.validation_definitions.add(definition)],
                actions=[UpdateDataDocsAction(name="pages")],
                result_format=result_format,
            )
            done = self._context.checkpoints.add(checkpoint).run(
                batch_parameters=parameters, run_id=RunIdentifier(run_name=name_of(self._run_id))
            )
            if done.success:
                break
        if all(verdict.success for verdict in self.verdicts if verdict.entity == contract.entity):
            found = pages(self._settings).glob(f"validations/{suite.name}/{name_of(self._run_id)}/*/*.html")
            self.data_docs[contract.entity] = max(found)
        for result in done.run_results.values():
            said = [_verdict(self._layer, contract, one) for one in result.results]
            self.verdicts = _with(self.verdicts, said)


def _with(verdicts: list[Verdict], more: list[Verdict]) -> list[Verdict]:
    """Verdicts with those on more rows of the same table; rows that failed add up."""
    found = {(one.entity, one.expectation, one.column): one for one in verdicts}
    for one in more:
        name = (one.entity, one.expectation, one.column)
        held = found.get(name)
        found[name] = one if held is None else replace(
            one,
            success=held.success and one.success,
            failed_rows=held.failed_rows + one.failed_rows,
            failed_keys=(held.failed_keys + one.failed_keys)[:_SHOWN_ROWS],
        )  # fmt: skip
    return list(found.values())


def _verdict(layer: Gate, contract: type[Record], one: Any) -> Verdict:
    details, config = one.result or {}, one.expectation_config
    raised = _raised(one.exception_info or {})
    rows = details.get("partial_unexpected_index_list") or ()
    return Verdict(
        layer=layer,
        entity=contract.entity,
        expectation=(config.meta or {}).get("law") or config.type,
        column=config.kwargs.get("column"),
        success=bool(one.success) and not raised,
        says=f"could not be checked: {raised}" if raised else "",
        failed_rows=int(details.get("unexpected_count") or details.get("observed_value") or 0),
        failed_keys=tuple({name: str(row[name]) for name in contract.key} for row in rows[:_SHOWN_ROWS]),
    )


def _raised(info: dict[str, Any]) -> str:
    """What stopped an expectation, in a line; told of it as a whole, or of each metric that it needs."""
    for one in (info, *(part for part in info.values() if isinstance(part, dict))):
        if one.get("raised_exception"):
            return str(one.get("exception_message")).strip().splitlines()[0][:500]
    return ""


def _keys(connection: psycopg.Connection, contract: type[Record], query: str, rows: str) -> tuple[dict[str, Any], ...]:
    breaking = f"{query.format(batch=f'({rows}) as r')} limit {_SHOWN_ROWS}"
    found = connection.execute(breaking).fetchall()  # type: ignore[arg-type]
    return tuple(dict(zip(contract.key, map(str, row), strict=True)) for row in found)


# --- silver -----------------------------------------------------------------------------------


def _taken(table: Any, window: Window, contract: type[Record]) -> Iterator[pl.DataFrame]:
    """The rows of a window as a publish will have them, in frames that fit into memory; nested columns left out."""
    import polars as pl

    names = _flat_names(contract)
    if window.to_version <= window.from_version:
        return
    whole = window.is_whole
    frames = rows_taken(table, window, names, files_ahead=1) if whole else _last_changes(table, window, contract)
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame.select(names))
        if sum(map(len, held)) >= _ROWS_AT_ONCE:
            yield pl.concat(held)
            held = []
    if held:
        yield pl.concat(held)


def _last_changes(table: Any, window: Window, contract: type[Record]) -> Iterator[pl.DataFrame]:
    """The rows that a window leaves of what it brought or changed; only those that it changed are held at once."""
    import polars as pl

    key, kind = list(contract.key), pl.col("_change_type")
    changed = [
        frame.filter(kind != "insert").select(key)
        for frame in changes_taken(table, window, [*key, "_change_type", "_commit_version"])
    ]
    if not changed:  # files were joined, and no row is another
        return
    touched = pl.concat(changed).unique()
    held = []
    for frame in changes_taken(table, window):
        held.append(frame.join(touched, on=key, how="semi"))
        yield frame.join(touched, on=key, how="anti")
    # in the order of `publish`, which keeps the last
    last = pl.concat(held).sort("_commit_version", kind != "delete", "sequence", "occurred_at", maintain_order=True)
    yield last.unique(key, keep="last", maintain_order=True).filter(kind != "delete")


def _flat_names(contract: type[Record]) -> list[str]:
    return [spec.name for spec in published_fields_of(contract) if spec.kind != "parts"]


def _refused(connection: psycopg.Connection, settings: Settings, entity: str) -> Verdict:
    """Whether the share of the last day's messages that were refused, and not put back, is within its budget."""
    import polars as pl
    import pyarrow.compute as pc

    since = datetime.now(UTC) - timedelta(hours=_QUARANTINE_HOURS)
    arrived, refused = 0, 0
    is_recent = pc.field("arrived_at") >= since
    bronze, quarantine = open_table(settings, "bronze", entity), open_table(settings, "quarantine", entity)
    if bronze is not None:
        arrived = bronze.to_pyarrow_dataset().count_rows(filter=is_recent)
    if quarantine is not None:
        held = pl.DataFrame(quarantine.to_pyarrow_dataset().to_table(columns=_PLACE, filter=is_recent))
        mended = connection.execute(
            f"select {', '.join(_PLACE)} from ops.quarantine_replays where entity = %s and state = 'sent'",  # type: ignore[arg-type]
            (entity,),
        ).fetchall()
        refused = len(held.join(pl.DataFrame(mended, schema=held.schema, orient="row"), on=_PLACE, how="anti"))
    share = refused / arrived if arrived else 0.0
    budget = settings.gate_quarantine_budget
    says = (
        f"{refused:,} of the {arrived:,} messages of the last {_QUARANTINE_HOURS} h are in quarantine, "
        f"{share:.1%} where {budget:.1%} may be; `crm quarantine list {entity}` says why"
    )
    return Verdict("silver", entity, "quarantine_within_budget", None, share <= budget, refused, (), says)


# --- verdicts ---------------------------------------------------------------------------------


def _table(settings: Settings, layer: Gate, verdicts: list[Verdict], data_docs: dict[str, Path]) -> Table:
    """The verdicts, what failed first, with the pages of Data Docs."""
    title = f"the gate of {layer}"
    table = Table("table", "expectation", "column", "met", "rows that failed", "", box=None, title=title)
    for one in sorted(verdicts, key=lambda one: (one.success, one.entity)):
        page = data_docs.get(one.entity)
        link = f"[link=../../{page.relative_to(pages(settings)).as_posix()}]Data Docs[/link]" if page else ""
        met = "[green]yes[/]" if one.success else "[red]no[/]"
        table.add_row(one.entity, one.expectation, one.column or "", met, f"{one.failed_rows:,}", link)
    return table


def _keep(connection: psycopg.Connection, run_id: str, verdicts: list[Verdict]) -> None:
    """Keep the verdicts of a run; what older runs of gates and models said goes."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "insert into ops.gate_results"
            " (run_id, layer, entity, expectation, column_name, success, failed_rows, failed_keys)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (run_id, v.layer, v.entity, v.expectation, v.column, v.success, v.failed_rows,
                 json.dumps(v.failed_keys))
                for v in verdicts
            ],
        )  # fmt: skip
        for table, since in (("gate_results", "checked_at"), ("model_results", "ended_at")):
            cursor.execute(f"delete from ops.{table} where {since} < now() - {_RESULTS_KEPT}")  # type: ignore[arg-type]


def _open(connection: psycopg.Connection, reached: dict[str, int]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "insert into ops.gate_marks (entity, published_batch) values (%s, %s) on conflict (entity) do update"
            " set published_batch = greatest(ops.gate_marks.published_batch, excluded.published_batch)",
            list(reached.items()),
        )
