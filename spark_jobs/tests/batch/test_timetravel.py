"""Versions are found by number and time, and differ by id; on real Delta tables."""

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from data_platform_core.errors import CrmError, UsageError
from spark_jobs.batch.timetravel import difference, rows_at, version_at, versions_of


@pytest.fixture
def table(tmp_path):
    place = str(tmp_path / "t")
    write_deltalake(place, pl.DataFrame({"id": ["a", "b"], "note": ["x", None]}).to_arrow())
    write_deltalake(place, pl.DataFrame({"id": ["b", "c"], "note": ["y", "z"]}).to_arrow(), mode="overwrite")
    return DeltaTable(place)


def test_a_version_is_told_by_its_number_or_a_time(table):
    newest, oldest = versions_of(table)
    assert version_at(table, "0") == 0
    assert version_at(table, newest.at.isoformat()) == 1
    assert version_at(table, "2999-01-01T00:00:00+09:00") == 1
    for words, says in (
        ("7", "no version 7: there are 0 "),
        ("1999-01-01T00:00:00Z", "younger"),
        ("2026-11-20T09:00:00", "no time zone"),
        ("2026-11-20", "write it as 2026-11-20T00:00:00Z"),
        ("yesterday", "neither a version nor a time"),
        ("²", "neither a version nor a time"),
    ):
        with pytest.raises(UsageError, match=says):
            version_at(table, words)
    assert oldest.number == 0


def test_two_versions_differ_by_id(table):
    found = difference(rows_at(table, 0), rows_at(table, 1), ("id",))
    assert [frame["id"].to_list() for frame in (found.added, found.removed, found.changed)] == [["c"], ["a"], ["b"]]
    assert found.changed["note"].to_list() == ["y"]
    same = difference(rows_at(table, 1), rows_at(table, 1), ("id",))
    assert len(same.added) == len(same.removed) == len(same.changed) == 0


def test_a_version_whose_files_are_gone_says_so(table):
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(CrmError, match="version 0 cannot be read any more"):
        rows_at(table, 0)
    assert len(rows_at(table, 1)) == 2
