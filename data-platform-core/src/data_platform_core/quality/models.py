"""What became of the models of a dbt run, layer by layer, as a table and as a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg.rows import class_row
from rich.console import Console
from rich.table import Table

from data_platform_core.errors import CrmError, GateFailed
from data_platform_core.quality.docs import write_page
from data_platform_core.settings import Settings
from data_platform_core.warehouse import MODELER, connect

_WELL = ("success", "pass", "warn", "no-op")


@dataclass(frozen=True)
class _Node:
    """A model or a test of a run, as dbt told it."""

    node: str
    model: str
    kind: str
    status: str
    row_count: int
    seconds: float
    message: str

    @property
    def is_well(self) -> bool:
        return self.status in _WELL

    @property
    def name(self) -> str:
        """Its name, without the kind and the project that dbt puts before."""
        return self.node.split(".")[2]


def show_models(settings: Settings, run_id: str, layer: str, console: Console) -> str:
    """Print a layer's models of a run, write them as a page; returns its address.

    Raises:
        CrmError: the run built nothing of the layer.
        GateFailed: a model or a test of the layer failed; says which.
    """
    # the last word on each node: a run that was cleared has several
    query = (
        "select distinct on (node) node, model, kind, status, row_count, seconds, message from ops.model_results"
        " where run_id = %s and layer = %s order by node, ended_at desc"
    )
    with connect(settings, MODELER) as connection, connection.cursor(row_factory=class_row(_Node)) as cursor:
        nodes = cursor.execute(query, (run_id, layer)).fetchall()
    if not nodes:
        raise CrmError(f"the run {run_id} built nothing of {layer}: the log of `dbt build` says why")
    table = _table(layer, nodes)
    console.print(table)
    page = write_page(settings, run_id, layer, table)
    failed = [f"{node.name}: {node.message or node.status}" for node in nodes if not node.is_well]
    if failed:
        raise GateFailed(f"{layer} is not whole:\n  " + "\n  ".join(failed) + f"\nthe page: {page}")
    return page


def _table(layer: str, nodes: Iterable[_Node]) -> Table:
    table = Table("model", "status", "rows", "seconds", "tests", "that failed", box=None, title=layer)
    by_model: dict[str, list[_Node]] = {}
    for node in nodes:
        by_model.setdefault(node.model, []).append(node)
    for model, parts in sorted(by_model.items()):
        tests = [part for part in parts if part.kind != "model"]
        itself = next((part for part in parts if part.kind == "model"), None)
        status = itself.status if itself else ""
        rows = f"{itself.row_count:,}" if itself and itself.row_count >= 0 else ""
        table.add_row(
            model, f"[{'green' if all(part.is_well for part in parts) else 'red'}]{status}[/]", rows,
            f"{sum(part.seconds for part in parts):.1f}", str(len(tests)),
            ", ".join(part.name for part in tests if not part.is_well),
        )  # fmt: skip
    return table
