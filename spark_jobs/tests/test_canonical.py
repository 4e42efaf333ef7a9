"""Spark's canonical form of a record is the one of the audit."""

from datetime import timedelta
from pathlib import Path

import pytest

from data_platform_core.contracts import CONTRACTS
from spark_jobs.streaming.land import record_hash
from spark_jobs.transforms.parse import parsed

EXAMPLES = Path(__file__).parents[2] / "data-platform-core" / "tests" / "contracts"
# by data_platform_core.derive.canonical, of the example *.1.minimal.pass.json
EXPECTED = {
    "events": "6cded04f9c38e4f714b8b2beb78b3e55",
    "orders": "5934ec149ec837a155b701e393b55687",
    "products": "deab500d6a54cabe42d41f068fd12b4d",
    "profiles": "8bd95c9c3ee418253f41e43690667225",
}


@pytest.mark.parametrize("entity", CONTRACTS)
def test_the_hash_of_a_row_is_that_of_its_record(messages, entity):
    rows = parsed(messages((EXAMPLES / f"{entity}.1.minimal.pass.json").read_bytes()), CONTRACTS[entity], timedelta(0))
    (row,) = rows.selectExpr(f"{record_hash(CONTRACTS[entity])} as digits").collect()
    assert row.digits == EXPECTED[entity]
