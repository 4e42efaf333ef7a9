"""Which files a backfill takes, and how each is read; what would be passed over or not fit is named."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from data_platform_core.contracts import CONTRACTS
from data_platform_core.errors import UsageError
from data_platform_core.settings import Settings
from spark_jobs.batch import backfill
from spark_jobs.batch.backfill import Days, _messages_in, files_below, files_to_land, weighed

GOOD = (Path(__file__).parents[2] / "data-platform-core/tests/contracts/events.1.minimal.pass.json").read_bytes()
LINE = json.dumps(json.loads(GOOD)).encode() + b"\n"


@pytest.fixture
def settings():
    return Settings()


def to_land(settings, folder, days=None):
    return files_to_land(files_below(settings, str(folder)), str(folder), days)


def test_a_name_is_no_pattern(spark, settings, tmp_path):
    for name, lines in {"e[1].ndjson": 2, "e1.ndjson": 1, "e{x,y}?*.ndjson": 3}.items():
        (tmp_path / name).write_bytes(LINE * lines)
    pl.DataFrame([json.loads(GOOD)]).write_parquet(tmp_path / "p[1].parquet")
    files = files_below(settings, str(tmp_path))
    counts = {file.topic.rpartition("/")[2]: _messages_in(spark, file, CONTRACTS["events"]).count() for file in files}
    assert counts == {"e[1].ndjson": 2, "e1.ndjson": 1, "e{x,y}?*.ndjson": 3, "p[1].parquet": 1}


@pytest.mark.parametrize("name", ["_part.ndjson", ".x.ndjson"])
def test_a_name_that_spark_passes_over_is_refused(settings, tmp_path, name):
    (tmp_path / name).write_bytes(LINE)
    with pytest.raises(UsageError, match=f"{name} would be passed over.*rename it"):
        to_land(settings, tmp_path)


def test_a_file_too_large_to_land_at_once_is_refused(settings, tmp_path, monkeypatch):
    (tmp_path / "a.ndjson").write_bytes(LINE * 3)
    pl.DataFrame({"n": range(100)}).write_parquet(tmp_path / "b.parquet")
    monkeypatch.setattr(backfill, "_LARGEST_BYTES", len(LINE) * 3)
    with pytest.raises(UsageError, match=r"b\.parquet is too large to land at once.*split it"):
        weighed(settings, files_below(settings, str(tmp_path)))


def test_what_is_no_parquet_is_named(settings, tmp_path):
    (tmp_path / "b.parquet").write_bytes(LINE)
    with pytest.raises(UsageError, match=r"b\.parquet cannot be read as Parquet"):
        weighed(settings, files_below(settings, str(tmp_path)))


def test_one_file_is_a_backfill_too_and_a_web_address_is_none(settings, tmp_path):
    (tmp_path / "a.ndjson").write_bytes(LINE)
    assert [file.bytes for file in files_below(settings, str(tmp_path / "a.ndjson"))] == [len(LINE)]
    with pytest.raises(UsageError, match="a backfill reads a folder of this machine's, or s3://"):
        files_below(settings, "http://x/y")


def test_days_choose_files_by_the_windows_that_their_names_tell(settings, tmp_path):
    days = [Days(date(2026, 10, day), date(2026, 10, last), ZoneInfo("Asia/Seoul")) for day, last in ((1, 1), (2, 3))]
    # the shop's 1st of October begins at 15:00 of the 30th in UTC
    names = [f"2026{word}T150000Z--2026{then}T150000Z.ndjson" for word, then in (("0929", "0930"), ("0930", "1001"))]
    for name in (*names, "20261002T140000Z--20261002T160000Z.ndjson"):
        (tmp_path / name).write_bytes(LINE)
    assert [file.address.rpartition("/")[2] for file in to_land(settings, tmp_path, days[0])] == names[1:]
    assert len(to_land(settings, tmp_path, days[1])) == 1
    with pytest.raises(UsageError, match="holds no files of 2026-11-01 to 2026-11-01"):
        to_land(settings, tmp_path, replace(days[0], first=date(2026, 11, 1), last=date(2026, 11, 1)))
    (tmp_path / "mine.ndjson").write_bytes(LINE)
    with pytest.raises(UsageError, match=r"mine\.ndjson tells no window in its name.*rename it"):
        to_land(settings, tmp_path, days[0])


def test_a_name_with_a_colon_is_refused_and_other_formats_are_told(settings, tmp_path):
    for name in ("a.ndjson", "B.NDJSON", "c.ndjson.gz"):
        (tmp_path / name).write_bytes(LINE)
    assert len(to_land(settings, tmp_path)) == 1
    assert len(files_below(settings, str(tmp_path))) == 3
    (tmp_path / "a:b.ndjson").write_bytes(LINE)
    with pytest.raises(UsageError, match=r"a:b\.ndjson cannot be read by Hadoop.*rename it"):
        to_land(settings, tmp_path)
