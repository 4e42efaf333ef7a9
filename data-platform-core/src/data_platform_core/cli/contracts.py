"""`crm contracts`: the files that are derived from contracts and committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from data_platform_core.errors import ContractBroken

contracts_app = typer.Typer(help="Contracts and what is derived from them.", no_args_is_help=True)

_REPOSITORY = Path(__file__).parents[4]
Root = Annotated[Path, typer.Option(help="Root of the repository.", file_okay=False, exists=True)]


def derived_files(root: Path) -> dict[Path, str]:
    """Every derived file that is committed, with the text it should have."""
    from data_platform_core.contracts import CONTRACTS, ENTITIES, GENERATED
    from data_platform_core.derive.dbt import dbt_docs_text, dbt_holidays_text, dbt_sources_text
    from data_platform_core.derive.json_schema import json_schema_text

    schemas = root / "data-platform-core" / "contracts"
    files = {
        schemas / f"{contract.entity}.{contract.version}.schema.json": json_schema_text(contract)
        for contract in CONTRACTS.values()
    }
    files[root / "dags" / "entities.json"] = json.dumps({"all": ENTITIES, "generated": GENERATED}, indent=2) + "\n"
    files[root / "dbt" / "models" / "staging" / "_lake__sources.yml"] = dbt_sources_text()
    files[root / "dbt" / "models" / "staging" / "_lake__docs.md"] = dbt_docs_text()
    files[root / "dbt" / "macros" / "shop_holidays.sql"] = dbt_holidays_text()
    return files


@contracts_app.command()
def write(root: Root = _REPOSITORY) -> None:
    """Write the derived files anew."""
    for path, text in derived_files(root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        typer.echo(path)


@contracts_app.command()
def check(root: Root = _REPOSITORY) -> None:
    """Fail where a derived file is stale."""
    stale = [p for p, text in derived_files(root).items() if not p.exists() or p.read_text() != text]
    if stale:
        names = ", ".join(str(path) for path in stale)
        raise ContractBroken(f"stale: {names}; run `crm contracts write` and commit what it changes")
    typer.echo("all derived files are fresh")


def register(app: typer.Typer) -> None:
    """Bring the commands of this package to `crm`."""
    app.add_typer(contracts_app, name="contracts", rich_help_panel="Platform")
