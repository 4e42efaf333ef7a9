"""The parts of `make test`: what each runs, what a change must touch to concern it, and how long it may take.

A part is one run of pytest. Whoever adds a part gives it a budget of 180 seconds; `make test` as a whole has 45 minutes
on a fresh machine (decision 0029).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_platform_core.errors import UsageError
from home_server.import_map import files_imported_by
from home_server.places import ROOT

_PYTHON = ("data-platform-core", "data-generator", "spark_jobs", "home-server-infra/local")


@dataclass(frozen=True)
class Part:
    """Tests that run as one: in one environment, on one stack or on none."""

    name: str
    what: str
    paths: tuple[str, ...]
    budget_seconds: int
    environment: str = "platform"
    needs: tuple[str, ...] = ()
    """The set-up steps that must be done before it begins."""
    runs: tuple[str, ...] = ()
    """Folders and files whose programs its tests start, or whose text they read: a change of one concerns it."""
    stack: bool = False
    """Whether its tests start components, on ports of their own."""
    has_drills: bool = False
    """Whether `make drill` runs some of its tests; those of the playbooks are run by `make drill-infra`."""
    on_every_core: bool = False
    on_test_hosts: bool = False

    def owns(self, file: str) -> bool:
        """Whether a file, named from the repository's root, is one of its tests."""
        return _is_below(file, self.paths) and not _is_below(
            file, [path.removeprefix("--ignore=") for path in self.paths if path.startswith("--ignore=")]
        )


STORE = "set up the store"
"""The need of whichever S3 store a run is on."""
_LAKE = ("set up java", "set up postgres", "set up classes", STORE)
_STACK = (*_LAKE, "set up airflow", "set up dbt")

PARTS = (
    Part(
        "lake", "the stream and the lake on real Kafka, S3 and PostgreSQL", ("tests/lake",), 600,
        needs=_LAKE, runs=(*_PYTHON, "requirements"), stack=True, has_drills=True,
    ),
    Part(
        "airflow", "the main job and runs of its DAG by Airflow", ("tests/airflow",), 480,
        needs=_STACK, runs=(*_PYTHON, "dags", "dbt", "env.sh", "requirements"), stack=True, has_drills=True,
    ),
    Part(
        "infra", "the playbooks on test hosts", ("ansible/tests",), 330,
        needs=("test host image", "kafka archives"), on_test_hosts=True,
        runs=("ansible", "home-server-infra/monitoring", "home-server-infra/local/src", "requirements"),
    ),
    Part(
        "warehouse", "publish, gates and models on a real PostgreSQL", ("tests/warehouse",), 300,
        needs=("set up dbt", "set up postgres", "set up java"), stack=True, has_drills=True,
        runs=(*_PYTHON, "dbt", "requirements", "tests/dbt_shell.py"),
    ),
    Part(
        "unit", "what needs no stack", (
            "data-platform-core/tests", "data-generator/tests", "home-server-infra/local/tests",
            "spark_jobs/tests/batch", "tests/test_structure.py", "tests/test_tutorial.py",
        ), 240,
        runs=(*_PYTHON, "docs", "requirements", "ansible", "home-server-infra", "dbt", "dags"), on_every_core=True,
        has_drills=True,
    ),
    Part(
        "spark", "transformations and the stream's own parts, in Spark",
        ("spark_jobs/tests", "--ignore=spark_jobs/tests/batch"), 120,
        environment="spark", needs=("set up jars",), runs=("requirements/spark.txt",),
    ),
    Part(
        "dags", "house rules of the DAGs, as Airflow reads them", ("dags/tests",), 60,
        environment="airflow", needs=("set up airflow",), runs=("dags", "dbt", "requirements/airflow.txt"),
    ),
)  # fmt: skip
"""In the order in which they begin: those that take longest first."""

FAST = tuple(part.name for part in PARTS if not (part.stack or part.on_test_hosts))
"""Those that need neither a stack nor a test host."""


def parts_named(names: Iterable[str]) -> tuple[Part, ...]:
    """The parts that are named, in the order in which they run; all of them where none is.

    Raises:
        UsageError: a name is no part's.
    """
    wanted, known = set(names), {part.name: part for part in PARTS}
    if unknown := sorted(wanted - known.keys()):
        raise UsageError(f"no part {', '.join(unknown)}: the parts of the tests are {', '.join(known)}")
    return tuple(part for part in PARTS if not wanted or part.name in wanted)


def parts_concerned(files: Iterable[str]) -> tuple[Part, ...]:
    """The parts that a change of these files, named from the repository's root, may break.

    A part is concerned where a file is a test of its own, is imported by one, however far away, or belongs to what it
    runs. All documents are read by the structure tests, of the part `unit`.
    """
    changed = set(files)
    return tuple(part for part in PARTS if changed & _EVERYBODYS or _concerns(part, changed))


def changed_files(revision: str, folder: Path = ROOT) -> list[str]:
    """The files that differ from a revision, those that git does not know yet included.

    Raises:
        UsageError: git knows no such revision.
    """
    told = _git(folder, "diff", "--name-only", "--no-renames", "-z", revision, "--")
    stray = _git(folder, "ls-files", "--others", "--exclude-standard", "-z")
    return sorted({name for name in (told + stray).split("\0") if name})


_EVERYBODYS = {"Makefile", "pyproject.toml", "conftest.py", ".ci/run", "tests/conftest.py", "tests/known.py"}


def _concerns(part: Part, changed: set[str]) -> bool:
    documents = {file for file in changed if file.endswith(".md") and not file.startswith("dbt/")}
    if part.name == "unit" and documents:
        return True
    changed = changed - documents
    if any(part.owns(file) or _is_below(file, part.runs) for file in changed):
        return True
    tests = [file for path in part.paths for file in _python_files(ROOT / path)]
    return bool(changed & {str(file.relative_to(ROOT)) for file in files_imported_by(tests)})


def _is_below(file: str, folders: Iterable[str]) -> bool:
    return any(file == folder or file.startswith(f"{folder}/") for folder in folders)


def _python_files(path: Path) -> list[Path]:
    return [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise UsageError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
