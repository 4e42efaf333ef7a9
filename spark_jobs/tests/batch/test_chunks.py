"""A backfill's days are cut into requests."""

import json

import typer
from typer.testing import CliRunner

from spark_jobs.cli.lake import chunks_command


def test_a_window_is_cut_into_chunks_that_have_been(monkeypatch):
    def chunks(*words):
        return CliRunner().invoke(app, ["--from", *words[:1], "--to", *words[1:]])

    app = typer.Typer()
    app.command()(chunks_command)
    told = json.loads(chunks("2026-01-01", "2026-01-05", "--days", "3", "orders", "profiles").stdout)
    assert [(one["ENTITY"], one["FIRST"], one["LAST"]) for one in told] == [
        ("profiles", "2026-01-01", "2026-01-03"), ("orders", "2026-01-01", "2026-01-03"),
        ("profiles", "2026-01-04", "2026-01-05"), ("orders", "2026-01-04", "2026-01-05"),
    ]  # fmt: skip
    assert "the first day comes after the last" in str(chunks("2026-01-02", "2026-01-01").exception)
    assert "more than the 1,000 Airflow maps" in str(chunks("2023-01-01", "2026-01-01", "--days", "1").exception)
    assert "has not been yet" in str(chunks("2026-01-02", "2999-01-01").exception)
