"""House rules of all DAGs; and the tests prove that they looked."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DAGS = Path(__file__).parents[1]
FILES = sorted(DAGS.glob("*.py"))


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """Every DAG as Airflow reads it, in a process and a home of its own, so that no stack is needed."""
    home = tmp_path_factory.mktemp("airflow")
    script = (
        "import json\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        f"bag = DagBag({str(DAGS)!r})\n"
        "print('BAG' + json.dumps({'errors': bag.import_errors, 'dags': [\n"
        "  {'file': d.fileloc, 'id': d.dag_id, 'doc': d.doc_md, 'tags': sorted(d.tags), 'catchup': d.catchup,\n"
        "   'active': d.max_active_runs, 'timeout': d.dagrun_timeout is not None,\n"
        "   'params': {n: d.params.get_param(n).schema for n in d.params},\n"
        "   'tasks': [{'id': t.task_id, 'owner': t.owner, 'kind': t.task_type, 'down': sorted(t.downstream_task_ids),\n"
        "     'timeout': t.execution_timeout is not None,\n"
        "     'at_once': t.max_active_tis_per_dag} for t in d.tasks]}\n"
        "  for d in bag.dags.values()]}))\n"
    )
    env = os.environ | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{home}/airflow.db"
    env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['CRM_HOME']}/bin:{env['PATH']}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    lines = [line for line in done.stdout.splitlines() if line.startswith("BAG")]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("BAG"))


def test_every_file_was_read_without_error(bag):
    assert bag["errors"] == {}
    assert FILES
    assert {Path(dag["file"]).name for dag in bag["dags"]} == {file.name for file in FILES}


def test_every_dag_says_what_it_is(bag):
    for dag in bag["dags"]:
        assert "When " in dag["doc"], f"{dag['id']}: its docstring says nothing of failures"
        assert dag["tags"]
        assert dag["timeout"]
        assert dag["catchup"] is False
        assert dag["active"] == 1
        assert all(task["owner"] != "airflow" for task in dag["tasks"])


def test_gates_stand_before_the_publish_and_before_the_models(bag):
    (dag,) = [dag for dag in bag["dags"] if dag["id"] == "crm_publish_and_model"]
    down = {task["id"]: task["down"] for task in dag["tasks"]}
    shown = ["built", "show_marts", "show_staging", "show_warehouse"]
    way = {"gate_silver": ["publish"], "publish": ["gate_published"], "gate_published": ["model"], "model": shown}
    assert down == way | {task: [] for task in shown}


def test_every_dag_that_is_triggered_by_hand_has_a_form(bag):
    for dag in bag["dags"]:
        assert dag["params"], dag["id"]
        for name, param in dag["params"].items():
            assert param["type"], f"{dag['id']}: {name}"


def test_a_long_backfill_leaves_slots_to_the_hourly_run(bag):
    (dag,) = [dag for dag in bag["dags"] if dag["id"] == "crm_backfill"]
    assert {task["id"]: task["at_once"] for task in dag["tasks"]}["land"] == 1


def test_every_task_ends_some_day(bag):
    for dag in bag["dags"]:
        for task in dag["tasks"]:
            assert task["timeout"] or task["kind"] == "EmptyOperator", f"{dag['id']}: {task['id']}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_dag_file_holds_no_logic(file):
    tree = ast.parse(file.read_text())
    assert len(file.read_text().splitlines()) <= 80
    forbidden = (ast.If, ast.For, ast.While, ast.Try, ast.With, ast.ClassDef, ast.Lambda)
    assert [type(node).__name__ for node in ast.walk(tree) if isinstance(node, forbidden)] == []
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    platform = ("data_platform_core", "data_generator", "spark_jobs", "home_server")
    assert not [name for name in imported if name.split(".")[0] in platform or name.startswith("crm_")]
