"""The gate: one Great Expectations suite per entity, derived from its contract, on its published table."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import psycopg

from data_platform_core.contracts import CONTRACTS, Record
from data_platform_core.derive.expectations import expectations_of
from data_platform_core.errors import GateFailed
from data_platform_core.layers import published_table
from data_platform_core.settings import Settings
from data_platform_core.warehouse import connect, warehouse_dsn

_SHOWN_ROWS = 20


@dataclass(frozen=True)
class Verdict:
    """What one expectation said of one table."""

    entity: str
    expectation: str
    column: str | None
    success: bool
    failed_rows: int
    failed_keys: tuple[dict[str, Any], ...]

    def __str__(self) -> str:
        where = f"{published_table(self.entity)}.{self.column}" if self.column else published_table(self.entity)
        keys = ", ".join("/".join(map(str, key.values())) for key in self.failed_keys)
        return f"{self.expectation} on {where}: {self.failed_rows:,} rows, among them {keys or 'no key known'}"


def run_gate(settings: Settings, run_id: str) -> list[Verdict]:
    """Check every published table, keep the verdicts in `ops.gate_results`.

    Raises:
        GateFailed: an expectation is not met; says which, on which rows.
        ComponentFailed: the warehouse is out of reach.
    """
    with connect(settings) as connection:  # first of all: its error is a sentence
        verdicts = _validate(settings)
        _keep(connection, run_id, verdicts)
    failed = [verdict for verdict in verdicts if not verdict.success]
    if failed:
        raise GateFailed("the gate is closed:\n  " + "\n  ".join(map(str, failed)))
    return verdicts


def _validate(settings: Settings) -> list[Verdict]:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")  # read by the library as it is imported
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}  # type: ignore[assignment]
    password = settings.secret("publisher_password")
    dsn = warehouse_dsn(settings, "crm_publisher").replace(
        "postgresql://crm_publisher@", f"postgresql+psycopg2://crm_publisher:{password}@"
    )
    source = context.data_sources.add_postgres("warehouse", connection_string=dsn)
    return [verdict for contract in CONTRACTS.values() for verdict in _validate_table(context, source, contract)]


def _validate_table(context: Any, source: Any, contract: type[Record]) -> list[Verdict]:
    import great_expectations as gx
    from great_expectations.expectations.registry import get_expectation_impl

    schema, table = published_table(contract.entity).split(".")
    asset = source.add_table_asset(contract.entity, table_name=table, schema_name=schema)
    suite = context.suites.add(gx.ExpectationSuite(name=contract.entity))
    for expectation in expectations_of(contract):
        suite.add_expectation(get_expectation_impl(expectation.name)(**expectation.arguments))
    batch = asset.add_batch_definition_whole_table("whole table")
    definition = gx.ValidationDefinition(name=contract.entity, data=batch, suite=suite)
    result = context.validation_definitions.add(definition).run(
        result_format={
            "result_format": "SUMMARY",
            "partial_unexpected_count": _SHOWN_ROWS,
            "unexpected_index_column_names": list(contract.key),
        }
    )
    return [_verdict(contract, one) for one in result.results]


def _verdict(contract: type[Record], one: Any) -> Verdict:
    details = one.result or {}
    if one.exception_info and one.exception_info.get("raised_exception"):
        raise GateFailed(f"{one.expectation_config.type} could not be checked: {one.exception_info}")
    keys = tuple(
        {name: str(row[name]) for name in contract.key} for row in details.get("partial_unexpected_index_list") or ()
    )
    return Verdict(
        entity=contract.entity,
        expectation=one.expectation_config.type,
        column=one.expectation_config.kwargs.get("column"),
        success=bool(one.success),
        failed_rows=int(details.get("unexpected_count") or 0),
        failed_keys=keys,
    )


def _keep(connection: psycopg.Connection, run_id: str, verdicts: list[Verdict]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "insert into ops.gate_results (run_id, entity, expectation, column_name, success, failed_rows, failed_keys)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            [
                (run_id, v.entity, v.expectation, v.column, v.success, v.failed_rows, json.dumps(v.failed_keys))
                for v in verdicts
            ],
        )
