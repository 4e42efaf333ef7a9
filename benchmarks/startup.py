"""From nothing to a demo that agrees, and from a stopped stack: step by step, cold and warm.

Cold means an empty folder: every environment, jar and binary is fetched or built. The baseline of a
warm step is the same step cold; the bars are those of the README.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from data_platform_core.errors import CrmError
from data_platform_core.settings import Settings
from home_server.benchmarks import Measure
from home_server.places import ROOT

COLD_BAR_SECONDS = 12 * 60.0
WARM_BAR_SECONDS = 3 * 60.0


def run(settings: Settings, console: Console) -> list[Measure]:
    """Time the main job cold and warm in a folder of its own."""
    home = Path(tempfile.mkdtemp(prefix="bench-", dir=settings.home))
    env = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
    env |= {"CRM_HOME": str(home), "CRM_PORT_OFFSET": "22000"}
    crm = str(home / "bin" / "crm")
    try:
        install = _timed([sys.executable, "home-server-infra/local/bootstrap.py"], env, console)
        cold = install + _timed([crm, "demo"], env, console)
        cold_steps = {"install crm": install, **_steps(home)}
        _timed([crm, "down"], env, console)
        warm = _timed([crm, "demo"], env, console)
        warm_steps = _steps(home)
    finally:
        if Path(crm).exists():
            subprocess.run([crm, "reset", "--yes"], env=env, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)
    return [
        Measure("demo cold, in all", cold, "s", None, "lower", COLD_BAR_SECONDS),
        Measure("demo warm, in all", warm, "s", cold, "lower", WARM_BAR_SECONDS),
        *(Measure(f"cold: {name}", seconds, "s", None, "lower") for name, seconds in cold_steps.items()),
        *(Measure(f"warm: {name}", seconds, "s", cold_steps[name], "lower") for name, seconds in warm_steps.items()),
    ]


def _steps(home: Path) -> dict[str, float]:
    return dict(json.loads((home / "stack" / "timings" / "demo.json").read_text()))


def _timed(command: list[str], env: dict[str, str], console: Console) -> float:
    console.print(f"[dim]$ {' '.join(Path(word).name for word in command)}[/dim]")
    started = time.monotonic()
    if subprocess.run(command, cwd=ROOT, env=env).returncode:
        raise CrmError(f"`{' '.join(command)}` failed: a benchmark of a broken demo says nothing")
    return time.monotonic() - started
