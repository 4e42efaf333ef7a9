"""`crm generate` as a user types it: files, and mistakes that end with one sentence."""

import json
import os
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from data_generator.configured import books, world_of
from data_platform_core.contracts import CONTRACTS
from data_platform_core.ledger.made import Ledger
from data_platform_core.settings import Settings

CRM = Path(sys.executable).with_name("crm-generate")


def small(tmp_path):
    return {
        "CRM_HOME": str(tmp_path),
        "CRM_WORLD_EVENTS_PER_DAY": "1000",
        "CRM_WORLD_CUSTOMERS": "1000",
        "CRM_PORT_OFFSET": "45000",
    }


def crm(tmp_path, *arguments, customers="1000"):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
    done = subprocess.run(
        [str(CRM), *arguments],
        env=kept | small(tmp_path) | {"CRM_WORLD_CUSTOMERS": customers},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stderr
    return done


def test_history_goes_to_files_whole_and_once(tmp_path):
    words = ("backfill", "--from", "2026-01-05", "--to", "2026-01-05", "--out", str(tmp_path / "out"), "--json")
    told = json.loads(crm(tmp_path, *words).stdout)
    files = list((tmp_path / "out").rglob("*.ndjson"))
    lines = [(CONTRACTS[file.parent.name], line) for file in files for line in file.read_bytes().splitlines()]
    assert told["records"] == len(lines) > 1000
    assert {contract.entity for contract, _ in lines} == set(CONTRACTS)
    for contract, line in lines[::50]:
        contract.model_validate_json(line)
    assert json.loads(crm(tmp_path, *words).stdout)["records"] == 0
    other = crm(tmp_path, *words, "--format", "csv")
    assert other.returncode == 2 and "holds ndjson files" in other.stderr
    assert list((tmp_path / "out").rglob("*.half")) == []


def test_files_that_the_lake_landed_are_booked_once(tmp_path):
    out, booked = str(tmp_path / "out"), Ledger(tmp_path / "stack/ledger/made.jsonl")
    files = Ledger(tmp_path / "out/made.jsonl")
    assert crm(tmp_path, "backfill", "--from", "2026-01-05", "--to", "2026-01-06", "--out", out).returncode == 0
    day, both = ("--from", "2026-01-05", "--to", "2026-01-05"), ("--from", "2026-01-05", "--to", "2026-01-06")
    assert crm(tmp_path, "book", out, "events", *day).returncode == 0
    assert 0 < booked.made("events").count < files.made("events").count and booked.made("orders").count == 0
    assert crm(tmp_path, "book", out, *both).returncode == 0
    assert {entity: booked.made(entity) for entity in CONTRACTS} == {e: files.made(e) for e in CONTRACTS}
    assert crm(tmp_path, "book", out, *both).stdout.startswith("0 records")
    assert "has no ledger" in crm(tmp_path, "book", str(tmp_path / "mine"), *both).stdout
    other = crm(tmp_path, "book", out, *both, customers="999")
    assert other.returncode == 2 and "holds records of world" in other.stderr


def test_cohorts_and_retention_are_told(tmp_path):
    told = json.loads(crm(tmp_path, "cohorts", "--on", "2026-06-30", "--json").stdout)
    assert set(told["cohorts"]) == {"new", "active", "returning", "churned"}
    assert 500 < sum(told["cohorts"].values()) < 1000
    assert [each["age"] for each in told["retention"]] == [1, 7, 30]
    shown = crm(tmp_path, "cohorts", "--on", "2026-06-30").stdout
    assert f"{told['cohorts']['churned']:,}" in shown and "99% interval of the contract, 28.00%" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("cohorts", "--on", "2025-10-31"), 2, "outside the world's calendar, which goes from 2025-11-01"),
        (("backfill", "--from", "2026-02-02", "--to", "2026-02-01"), 2, "--to must not be before --from"),
        (("backfill", "--from", "today", "--to", "2026-02-01"), 2, "'today' does not match the formats '%Y-%m-%d'"),
        (("live", "--tps", "0"), 2, "--tps 0 is not above 0 and up to 100000"),
        (("live", "--for", "5x"), 2, "--for 5x: write a duration as 60s, 5m or 1h"),
        (("live", "--speed", "2"), 2, "No such option"),
        (("backfill", "--from", "2026-01-05", "--to", "2926-01-05"), 2, "is not over yet"),
        (("backfill", "--from", "2020-01-05", "--to", "2020-01-06"), 2, "the shop opened on 2025-11-01"),
        (
            ("backfill", "--from", "2026-01-05", "--to", "2026-01-06", "--out", "ftp://x"),
            2,
            "neither a folder nor s3://",
        ),
        (("rate", "70"), 2, "no live run is going on"),
        (("live", "--for", "1s", "--out", ""), 2, "--out is empty"),
        (("live", "--for", "²s"), 2, "write a duration as"),
        (("spike", "--ramp", "999999999h"), 2, "of up to a year"),
        (("backfill", "--from", "2026-01-05", "--to", "2026-01-06", "--customers", "100000000000"), 2, "10000000"),
        (
            ("backfill", "--from", "2026-01-05", "--to", "2026-01-06", "--customers", "900000"),
            2,
            "times a day by their retention",
        ),
        (("live", "--for", "1s", "--out", "/proc/nothing"), 1, "No such file or directory"),
        (("spike", "--hold", "0s"), 2, "--hold 0s: write a duration as 60s, 5m or 1h"),
        (("replay", "--from", "2026-01-05", "--to", "2026-01-04"), 2, "--to must be after --from"),
        (("replay", "--from", "2026-01-05", "--to", "2026-01-06", "--speed", "0"), 2, "--speed 0 is not between"),
        (("live", "--for", "1s"), 1, "no Kafka answers at 127.0.0.1:54092: start the stack with `crm up`"),
    ],
)
def test_a_mistake_ends_with_one_sentence(tmp_path, arguments, code, says):
    done = crm(tmp_path, *arguments)
    assert done.returncode == code
    assert says in " ".join(done.stderr.replace("│", " ").split())


def test_a_folder_that_cannot_be_written_leaves_nothing_half(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "products").write_text("a file where a folder must be")
    done = crm(tmp_path, "backfill", "--from", "2026-01-05", "--to", "2026-01-05", "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "could not be read" in done.stderr and "Not a directory" in done.stderr
    assert list((tmp_path / "out").rglob("*.half")) == []


def test_the_manifest_is_of_what_was_made_and_notices_another_world(tmp_path):
    out = ("--out", str(tmp_path / "out"))
    crm(tmp_path, "backfill", "--from", "2026-01-05", "--to", "2026-01-05", *out)
    minutes = [json.loads(line) for line in crm(tmp_path, "manifest", *out).stdout.splitlines()]
    files = list((tmp_path / "out").rglob("*.ndjson"))
    assert sum(minute["count"] for minute in minutes) == sum(f.read_bytes().count(b"\n") for f in files)
    assert {minute["entity"] for minute in minutes} == set(CONTRACTS)
    noon = ("--from", "2026-01-05T12:00", "--to", "2026-01-05T12:30")
    some = [json.loads(line) for line in crm(tmp_path, "manifest", *out, *noon).stdout.splitlines()]
    assert some == [m for m in minutes if "2026-01-05T03:00Z" <= m["minute"] < "2026-01-05T03:30Z"] != []
    ledger = tmp_path / "out" / "made.jsonl"
    ledger.write_text(re.sub(r'"count": (\d+)', '"count": 7', ledger.read_text(), count=1))
    done = crm(tmp_path, "manifest", *out)
    assert done.returncode == 1 and "the ledger" in done.stderr
    other = crm(tmp_path, "manifest", *out, customers="500")
    assert other.returncode == 2 and "the ledger holds records of world" in other.stderr
    assert "there is no ledger" in crm(tmp_path, "manifest", "--out", str(tmp_path)).stderr


def test_a_full_disk_leaves_nothing_half(tmp_path):
    if os.geteuid():
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    words = f"{CRM} backfill --from 2026-01-05 --to 2026-03-05 --out {disk}"
    shown = f"find {disk} -name '*.half'; head -c1 {disk}/products/*.ndjson | grep -c '{{' >&2"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            f"mount -t tmpfs -o size=2m none {disk} && {words}; code=$?; {shown}; exit $code",
        ],
        env=kept | small(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1 and "No space left on device" in done.stderr
    assert ".half" not in done.stdout.replace("nothing half-written", "") and "Traceback" not in done.stderr


def test_hours_of_a_day_of_changing_clocks_are_the_shops():
    world = world_of(Settings(shop_time_zone="America/New_York"))
    assert world.moment(datetime(2026, 3, 8, 12)) == 1_772_985_600_000_000  # 16:00 UTC


def test_each_address_has_a_ledger_of_its_own():
    addresses = ("s3://lake/A", "s3://lake/B", "s3://lake/a/b", "s3://lake/a_b", "s3://lake", "/tmp/lake")
    assert len({books(Settings(), address)[0].path for address in addresses}) == len(addresses)


def test_a_replay_and_a_live_run_to_files(tmp_path):
    out = ("--out", str(tmp_path / "out"), "--json")
    told = json.loads(crm(tmp_path, "live", "--tps", "30", "--for", "3s", *out).stdout)
    assert told["seconds"] == 3 and 40 < told["records"] < 140
    words = ("replay", "--from", "2026-01-05T09:00", "--to", "2026-01-05T10:00", "--speed", "3600", *out)
    assert json.loads(crm(tmp_path, *words).stdout)["records"] > 5
    spiked = json.loads(crm(tmp_path, "spike", "--lead", "1s", "--ramp", "1s", "--hold", "2s", *out).stdout)
    assert 8_500 < spiked["records"] < 9_600  # 50 + 3,000 + 2 × 3,000


def test_a_killed_backfill_goes_on_where_it_stopped(tmp_path):
    words = ["backfill", "--from", "2026-01-05", "--to", "2026-02-28", "--out", str(tmp_path / "out")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
    started = subprocess.Popen(
        [str(CRM), *words, "--workers", "2"], env=kept | small(tmp_path), stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").rglob("events/*.ndjson"))) < 3:
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.02)
    workers = psutil.Process(started.pid).children()
    assert len(workers) >= 2
    started.kill()
    started.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive, "workers outlive the one who has work for them"
    some = len(list((tmp_path / "out").rglob("events/*.ndjson")))
    assert some < 55
    crm(tmp_path, *words)
    whole = crm(tmp_path, *[*words[:-1], str(tmp_path / "whole")])
    assert whole.returncode == 0
    files = {f.relative_to(tmp_path / "out"): f.read_bytes() for f in (tmp_path / "out").rglob("*.ndjson")}
    assert files == {f.relative_to(tmp_path / "whole"): f.read_bytes() for f in (tmp_path / "whole").rglob("*.ndjson")}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CRM_WORLD_RETENTION_D7", "0.5", "each must be smaller than the one before it"),
        ("CRM_WORLD_FUNNEL_CART", "1.5", "CRM_WORLD_FUNNEL_CART"),
        ("CRM_SHOP_COUNTRY", "XX", "no holidays are known of it"),
        ("CRM_SHOP_LOCALE", "xx_XX", "no words are known in it"),
    ],
)
def test_settings_that_make_no_world_are_named(tmp_path, name, value, says):
    out = str(tmp_path / "out")
    kept = {key: word for key, word in os.environ.items() if not key.startswith("CRM_")}
    words = [str(CRM), "backfill", "--from", "2026-01-05", "--to", "2026-01-05", "--out", out]
    done = subprocess.run(words, env=kept | small(tmp_path) | {name: value}, capture_output=True, text=True)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
