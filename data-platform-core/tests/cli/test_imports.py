"""What `crm` imports: the help no library that a command works with, and a command those that it works with itself."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

LIBRARIES = {
    "boto3",
    "botocore",
    "confluent_kafka",
    "deltalake",
    "faker",
    "great_expectations",
    "holidays",
    "httpx",
    "numpy",
    "pandas",
    "polars",
    "psycopg",
    "pyarrow",
    "pyspark",
}

RUN = """
import contextlib, io, json, sys
from data_platform_core.cli.main import app, main

def run(program, *words):
    sys.argv = ["crm", *words]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), contextlib.suppress(SystemExit):
        program()
    return printed.getvalue()
"""
HELP_OF_ALL = (
    RUN
    + """
from typer.main import get_command

def commands(group, *words):
    for name, command in getattr(group, "commands", {}).items():
        yield [*words, name]
        yield from commands(command, *words, name)

def asked(program, *words):
    told = run(program, *words, "--help")
    return [" ".join(words), " ".join(["Usage: crm", *words]) in told, sorted(sys.modules)]

found = [asked(main)]
crm = get_command(app)
found += [asked(crm, *words) for words in commands(crm)]
print(json.dumps(found))
"""
)
ONE_COMMAND = (
    RUN
    + """
told = run(main, *sys.argv[1:])
print(json.dumps([told, sorted(sys.modules)]))
"""
)


def printed_by(program, tmp_path, *words):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CRM_", "COLUMNS"))}
    env = kept | {"CRM_HOME": str(tmp_path), "COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-c", program, *words], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_help_of_no_command_imports_what_commands_work_with(tmp_path):
    found = printed_by(HELP_OF_ALL, tmp_path)
    asked = {words for words, _, _ in found}
    assert {point.name for point in entry_points(group="crm.commands")} < asked
    assert {"", "generate backfill", "quarantine list", "contracts check"} < asked
    for words, is_help, modules in found:
        assert is_help, words
        assert set(modules) & LIBRARIES == set(), f"crm {words} --help"


@pytest.mark.parametrize(
    ("words", "says", "imported"),
    [
        ("status --json", '"components"', set()),
        ("status", "airflow-scheduler", set()),
        ("env", "export CRM_HOME=", set()),
        ("chunks --from 2025-11-01 --to 2025-11-02", '"ENTITY"', set()),
        ("requests", "CRM_PUBLISHER_PASSWORD is not set", {"psycopg"}),
        ("audit", "CRM_DBT_PASSWORD is not set", {"psycopg"}),
        ("gate --run 1", "CRM_PUBLISHER_PASSWORD is not set", {"psycopg"}),
        ("quarantine list", "CRM_S3_SECRET_KEY is not set", {"deltalake", "polars"}),
        (
            "publish --run 1",
            "CRM_PUBLISHER_PASSWORD is not set",
            {"deltalake", "numpy", "polars", "psycopg", "pyarrow"},
        ),
    ],
)
def test_a_command_imports_what_it_has_come_to_need(tmp_path, words, says, imported):
    """In a home without passwords, whose stores no command gets to."""
    told, modules = printed_by(ONE_COMMAND, tmp_path, *words.split())
    assert says in told
    assert "data_platform_core.settings" in modules
    assert set(modules) & LIBRARIES == imported
