"""The audit notices what was not done by the platform; these tests come last, since they leave the stores apart."""

import pytest
from deltalake import DeltaTable
from known import silver

from data_platform_core.layers import lake_table
from data_platform_core.s3 import s3_options

pytestmark = pytest.mark.stack


def test_a_row_deleted_from_silver_by_hand_is_noticed(crm, settings):
    crm("down", "stream")
    # what was made may be a forgotten customer's; no model's test misses an event, as one would an order's first
    key = silver(settings, "events")["event_id"][0]
    address = lake_table(settings.lake_root, "silver", "events").replace("s3a://", "s3://")
    table = DeltaTable(address, storage_options=s3_options(settings))
    deleted = table.delete(f"event_id = '{key}'")
    assert deleted["num_deleted_rows"] == 1
    assert "silver has" in crm("audit", fails=True).stderr
    refused = crm("demo", "--live", "2", fails=True)
    assert refused.returncode == 1
    assert "the stores disagree" in refused.stderr
