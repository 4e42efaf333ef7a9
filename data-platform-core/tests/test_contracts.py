"""Example files say pass or fail in their names; the contract must say the same."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from data_platform_core.contracts import CONTRACTS

EXAMPLES = sorted((Path(__file__).parent / "contracts").glob("*.json"))


def test_every_contract_has_examples_of_both_verdicts():
    for contract in CONTRACTS.values():
        prefix = f"{contract.entity}.{contract.version}."
        verdicts = {path.suffixes[-2] for path in EXAMPLES if path.name.startswith(prefix)}
        assert verdicts == {".pass", ".fail"}, prefix


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_contract_agrees_with_the_name_of_the_example(path):
    contract = CONTRACTS[path.name.split(".")[0]]
    if ".pass." in path.name:
        record = contract.model_validate_json(path.read_text())
        assert contract.model_validate_json(record.model_dump_json()) == record
    else:
        with pytest.raises(ValidationError):
            contract.model_validate_json(path.read_text())
