import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from data_platform_core.cli.quality import gate_command
from data_platform_core.contracts import CONTRACTS, known_entities
from data_platform_core.errors import UsageError
from data_platform_core.quality.gate import _last_changes
from data_platform_core.windows import Window


def append(place, *ids):
    rows = pl.DataFrame([{"event_id": one, "sequence": 1, "occurred_at": 0, "device": "as sent"} for one in ids])
    write_deltalake(place, rows.to_arrow(), mode="append", configuration={"delta.enableChangeDataFeed": "true"})


@pytest.fixture
def place(tmp_path):
    append(str(tmp_path), "before")
    return str(tmp_path)


def left_by(place):
    """What a window of all but the first version leaves, by id."""
    table = DeltaTable(place)
    frames = _last_changes(table, Window("events", "id", 0, table.version()), CONTRACTS["events"])
    return {row["event_id"]: row["device"] for frame in frames for row in frame.iter_rows(named=True)}


def test_a_gate_looks_at_what_a_window_leaves(place):
    append(place, "kept", "changed", "gone")
    DeltaTable(place).update({"device": "'mended'"}, predicate="event_id in ('changed', 'before')")
    DeltaTable(place).delete("event_id = 'gone'")
    DeltaTable(place).update({"device": "'mended twice'"}, predicate="event_id = 'before'")
    append(place, "late")
    assert left_by(place) == {"kept": "as sent", "changed": "mended", "before": "mended twice", "late": "as sent"}


def test_joined_files_leave_nothing_to_look_at(place):
    append(place, "more")
    DeltaTable(place).optimize.compact()
    table = DeltaTable(place)
    window = Window("events", "id", table.version() - 1, table.version())
    assert list(_last_changes(table, window, CONTRACTS["events"])) == []


def test_what_a_gate_cannot_look_at_is_refused_and_what_is_named_twice_is_looked_at_once():
    with pytest.raises(UsageError, match="--whole is of what is published"):
        gate_command("run", layer="silver", whole=True)
    assert known_entities(["events", "orders", "events"]) == ("events", "orders")
