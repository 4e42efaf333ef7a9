"""Every test is in a part, and a change is tested by the parts that it may break."""

import subprocess

import pytest

from data_platform_core.errors import UsageError
from data_platform_core.settings import Settings
from home_server.import_map import PACKAGES, files_imported_by, modules_imported_by
from home_server.parts import FAST, PARTS, STORE, changed_files, parts_concerned, parts_named
from home_server.places import ROOT
from home_server.testbed.base import why_not
from home_server.testing import _set_up


def names(files):
    return {part.name for part in parts_concerned(files)}


def test_every_test_is_in_exactly_one_part():
    found = [file for file in ROOT.rglob("test_*.py") if ".crm" not in file.parts and file.parent.name != "rules"]
    assert len(found) > 50
    for file in found:
        path = str(file.relative_to(ROOT))
        assert len([part.name for part in PARTS if part.owns(path)]) == 1, path


def test_a_change_concerns_the_parts_that_run_it_or_import_it_however_far_away():
    assert names(["dags/crm_backfill.py"]) == {"airflow", "unit", "dags"}
    assert names(["ansible/roles/kafka/tasks/main.yml"]) == {"infra", "unit"}
    assert names(["dbt/models/marts/churn_risk.sql"]) == {"airflow", "warehouse", "unit", "dags"}
    assert names(["tests/lake/test_lake.py"]) == {"lake"}
    assert {"unit", "warehouse"} <= names(["data-generator/src/data_generator/cli.py"])
    assert {"unit", "warehouse"} <= names(["spark_jobs/src/spark_jobs/cli/publish.py"])
    assert "spark" in names(["spark_jobs/src/spark_jobs/streaming/land.py"])
    assert "spark" not in names(["spark_jobs/src/spark_jobs/cli/publish.py"])
    assert names(["tests/dbt_shell.py"]) == {"warehouse"}
    assert "infra" in names(["requirements/platform.txt"])
    assert names(["docs/your-own-data.md", "README.md", "data-platform-core/README.md"]) == {"unit"}
    assert names(["tests/conftest.py"]) == names(["Makefile"]) == {part.name for part in PARTS}
    assert names(["LICENSE"]) == set()


def test_what_a_part_needs_is_a_step_of_the_set_up():
    for part in PARTS:
        steps = {step.name for step in _set_up(Settings(home=ROOT / ".crm"), [part])} | {STORE}
        if not (part.on_test_hosts and why_not()):
            assert set(part.needs) <= steps, part.name
    assert not {step.name for step in _set_up(Settings(), parts_named(["unit"]))}


def test_imports_are_followed_within_functions_and_through_packages():
    core = PACKAGES["data_platform_core"] / "data_platform_core"
    files = files_imported_by([core / "ledger" / "audit.py"])
    assert {core / "ledger" / "stores.py", core / "settings.py", core / "__init__.py"} <= files
    assert "data_platform_core.settings" in set(modules_imported_by(core / "ledger" / "audit.py"))


def test_parts_and_revisions_that_are_not_there_are_named():
    with pytest.raises(UsageError, match="no part lakes: the parts of the tests are lake, airflow"):
        parts_named(["lakes"])
    with pytest.raises(UsageError, match="no-such-revision"):
        changed_files("no-such-revision")
    assert {part.name for part in parts_named(FAST)} == set(FAST)


def test_what_is_not_committed_counts_as_changed(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y", *words], cwd=tmp_path, check=True)

    git("init", "-q")
    (tmp_path / "kept").write_text("")
    (tmp_path / "주문").write_text("")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "주문").write_text("changed")
    (tmp_path / "stray").write_text("")
    assert changed_files("HEAD", tmp_path) == ["stray", "주문"]
