"""`crm bench`: runs the benchmarks of the folder `benchmarks/`, shows and keeps their results.

A benchmark is a file with `def run(settings, console) -> list[Measure]`.
"""

from __future__ import annotations

import json
import platform
import runpy
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import psutil
from rich.console import Console
from rich.table import Table

from data_platform_core.errors import UsageError
from data_platform_core.settings import Settings
from home_server.places import ROOT

_FOLDER = ROOT / "benchmarks"


@dataclass(frozen=True)
class Measure:
    """One row of a result: a value beside a baseline of the same run, held against a bar where there is one.

    The bar is one of the value, or `of_ratio`, of the ratio to the baseline.
    """

    measure: str
    value: float
    unit: str
    baseline: float | None
    better: Literal["higher", "lower"]
    bar: float | None = None
    of_ratio: bool = False

    def row(self) -> dict[str, Any]:
        """The row as it is kept: with the ratio to the baseline and whether the bar is met."""
        ratio = round(self.value / self.baseline, 3) if self.baseline else None
        is_met = None
        if self.bar is not None:
            held = self.value / self.baseline if self.of_ratio and self.baseline else self.value
            is_met = held <= self.bar if self.better == "lower" else held >= self.bar
        row = asdict(self) | {"ratio": ratio, "ok": is_met}
        del row["of_ratio"]
        return row


def run_benchmarks(settings: Settings, console: Console, name: str | None) -> None:
    """Run one benchmark with its parts (`lake_live` is one of `lake`), or all; prints and keeps each result.

    Raises:
        UsageError: there is no benchmark of that name.
    """
    known = sorted(path.stem for path in _FOLDER.glob("*.py"))
    chosen = [each for each in known if name in (None, each) or each.startswith(f"{name}_")]
    if not chosen:
        raise UsageError(f"no benchmark {name}: there are {', '.join(known)}")
    sys.path.append(str(_FOLDER))  # where they find what they share
    for each in chosen:
        measures = runpy.run_path(str(_FOLDER / f"{each}.py"))["run"](settings, console)
        rows = [measure.row() for measure in measures]
        _show(console, each, rows)
        _keep(each, rows)


def _show(console: Console, name: str, rows: list[dict[str, Any]]) -> None:
    table = Table("measure", "value", "baseline", "ratio", "bar", "ok", title=name, title_justify="left")
    for row in rows:
        value, baseline = (f"{row[k]:,.2f} {row['unit']}" if row[k] is not None else "" for k in ("value", "baseline"))
        verdict = {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}[row["ok"]]
        table.add_row(row["measure"], value, baseline, str(row["ratio"] or ""), str(row["bar"] or ""), verdict)
    console.print(table)


def _keep(name: str, rows: list[dict[str, Any]]) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, {memory:.0f} GiB"
    circumstances = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "machine": machine,
        "python": platform.python_version(),
    }
    target = _FOLDER / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps([row | circumstances for row in rows], indent=2) + "\n")
