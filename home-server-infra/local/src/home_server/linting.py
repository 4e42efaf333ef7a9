"""`crm lint`: every linter over its part of the tree."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from rich.console import Console

from data_platform_core.errors import CrmError
from data_platform_core.settings import Settings
from home_server.places import ROOT, SOURCES, env_bin
from home_server.steps import run_steps
from home_server.toolchain import setup_steps, write_platform_commands


class LintFailed(CrmError):
    """At least one linter has something to say."""


_SUBJECT = re.compile(r"(feat|fix|docs|perf|refactor|chore|test): [A-Z][a-z]+ .+ #[0-9]+")
_BEFORE_THE_RULE = {"fix: Restart, remove and migrate only what is safe #4"}


def odd_subjects(log: str) -> list[str]:
    """The lines of a log of commit subjects that are not of the form `type: Verb description #issue`."""
    return [line for line in log.splitlines() if not _SUBJECT.fullmatch(line) and line not in _BEFORE_THE_RULE]


def _check_subjects() -> str:
    """What is wrong with the subjects of the commits that HEAD has; nothing where this is no clone."""
    command = ["git", "log", "--no-merges", "--format=%s"]
    if not (ROOT / ".git").exists():
        return ""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        return done.stderr
    odd = odd_subjects(done.stdout)
    return "\n".join(["not of the form `type: Verb description #issue`:", *odd]) if odd else ""


def _playbooks(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*.yml") if "vault" not in file.name)


def run_lint(settings: Settings, console: Console) -> None:
    """Run all linters.

    Raises:
        LintFailed: names those that had something to say; what they said stands above.
    """
    write_platform_commands(settings)
    run_steps([step for step in setup_steps(settings) if step.name == "set up dbt"], console)
    crm = str(settings.home / "bin" / "crm")
    here = ROOT
    checks: list[tuple[str, Path, list[str]]] = [
        ("ruff format", here, ["platform/ruff", "format", "--check", "."]),
        ("ruff", here, ["platform/ruff", "check", "."]),
        ("mypy", here, ["platform/mypy", *SOURCES]),
        ("derived files", here, [crm, "contracts", "check"]),
        ("sqlfluff", here / "dbt", ["dbt/sqlfluff", "lint", "--disable-progress-bar", "models", "tests"]),
        (
            "dbt parse",
            here / "dbt",
            ["dbt/dbt", "--warn-error", "--no-partial-parse", "parse", "--target-path", "target"],
        ),
        ("dbt-bouncer", here / "dbt", ["dbt/dbt-bouncer", "run"]),
        ("yamllint", here, ["platform/yamllint", "--strict", "ansible", "dbt"]),
        ("ansible-lint", here / "ansible", ["platform/ansible-lint", "--offline", "--profile", "production"]),
        (
            "ansible syntax",
            here / "ansible",
            ["platform/ansible-playbook", "--syntax-check", "-i", "inventories/home", *_playbooks(here / "ansible")],
        ),
    ]
    path = f"{settings.home / 'envs' / 'platform' / 'bin'}:{os.environ.get('PATH', '')}"
    env = os.environ | {"PATH": path, "COLUMNS": "200"}  # a narrow table of dbt-bouncer leaves out what is wrong
    failed = []

    def tell(name: str, wrong: str) -> None:
        console.print(f"  {'[red]✗[/red]' if wrong else '[green]✓[/green]'} {name}")
        if wrong:
            failed.append(name)
            console.out(wrong, highlight=False)

    tell("commit subjects", _check_subjects())
    for name, folder, (program, *arguments) in checks:
        command = program if program.startswith("/") else env_bin(settings, *program.split("/"))
        done = subprocess.run([command, *arguments], cwd=folder, env=env, capture_output=True, text=True)
        tell(name, (done.stdout + done.stderr or "it failed and said nothing") if done.returncode else "")
    if failed:
        raise LintFailed(f"{', '.join(failed)}: see above; `ruff format .` and `ruff check --fix .` mend what they can")
