"""`crm audit`: count every store and compare."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from data_platform_core.errors import StoresDisagree

if TYPE_CHECKING:
    from rich.table import Table

    from data_platform_core.ledger.audit import EntityAudit

_TITLE = "Records, each figure counted in its own store (refused: in quarantine)"
_COLUMNS = ("entity", "made", "Kafka", "bronze", "refused", "silver", "published", "warehouse", "marts", "agree")


def audit_table(rows: list[EntityAudit]) -> Table:
    """The audit as a table for people."""
    from rich.table import Table

    table = Table(*_COLUMNS[:1], title=_TITLE, title_justify="left", box=None, padding=(0, 0, 0, 1))
    for column in _COLUMNS[1:]:
        table.add_column(column, justify="right" if column != "agree" else "center")
    for row in rows:
        counts = [row.made.count if row.made else None, row.kafka, row.bronze, row.quarantine, row.silver.count]
        counts += [row.published.count, row.warehouse, row.marts]
        verdict = "[red]no[/red]" if row.disagreements else "[green]yes[/green]"
        table.add_row(row.entity, *("–" if count is None else f"{count:,}" for count in counts), verdict)
    return table


def check_agreement(rows: list[EntityAudit]) -> None:
    """Fail where stores disagree.

    Raises:
        StoresDisagree: with what disagrees, per entity.
    """
    found = [f"{row.entity}: {words}" for row in rows for words in row.disagreements]
    if found:
        raise StoresDisagree("the stores disagree:\n  " + "\n  ".join(found))


def audit_command() -> None:
    """Count every store and compare, record by record. Exit code 1 where they disagree."""
    from rich.console import Console

    from data_platform_core.ledger.audit import audit
    from data_platform_core.settings import load_settings

    rows = audit(load_settings())
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(audit_table(rows))
    check_agreement(rows)


def register(app: typer.Typer) -> None:
    """Bring the commands of this package to `crm`."""
    app.command("audit", rich_help_panel="Platform")(audit_command)
