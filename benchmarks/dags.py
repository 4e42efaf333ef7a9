"""What Airflow pays for our DAG files: the seconds until all of them are read, in a process that has Airflow imported.

The baseline is a file with one task and nothing imported but Airflow.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console

from data_platform_core.errors import CrmError
from data_platform_core.settings import Settings
from home_server import stack
from home_server.benchmarks import Measure
from home_server.environment import process_environment
from home_server.places import ROOT, env_bin

ROUNDS = 5
_READ = """
import sys, time
from airflow.dag_processing.dagbag import DagBag
started = time.monotonic()
bag = DagBag(sys.argv[1])
print("READ", time.monotonic() - started, len(bag.dags), len(bag.import_errors))
"""
_ONE_TASK = """
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag
@dag(schedule=None)
def one():
    BashOperator(task_id="task", bash_command="true")
one()
"""


def run(settings: Settings, console: Console) -> list[Measure]:
    """Measure; takes a minute."""
    settings = stack.prepare(settings)
    stack.set_up(settings, console)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dags").mkdir()
        (Path(folder) / "dags" / "one.py").write_text(_ONE_TASK)
        own = process_environment(settings) | {
            "AIRFLOW_HOME": folder,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        }
        count = len(list((ROOT / "dags").glob("*.py")))
        pairs = [
            (_seconds(settings, own, ROOT / "dags", count), _seconds(settings, own, Path(folder) / "dags", 1))
            for _ in range(ROUNDS)
        ]
    ours, bare = (statistics.median(times) for times in zip(*pairs, strict=True))
    return [Measure(f"read all {count} DAG files", ours, "s", bare, "lower", 2.0)]


def _seconds(settings: Settings, env: dict[str, str], folder: Path, count: int) -> float:
    command = [env_bin(settings, "airflow", "python"), "-c", _READ, str(folder)]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("READ")]
    if not lines or lines[0][2:] != [str(count), "0"]:
        raise CrmError(f"the DAGs of {folder} were not read: {done.stderr[-1000:]} {done.stdout[-500:]}")
    return float(lines[0][1])
