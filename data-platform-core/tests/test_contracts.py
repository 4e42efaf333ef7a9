"""Example files say pass or fail in their names; the contract must say the same."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.spark import value_refusals
from data_platform_core.reasons import REASONS, code_of

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
        record = contract.read(path.read_bytes())
        assert contract.read(record.model_dump_json(warnings=False)) == record
    else:
        with pytest.raises(ValidationError):
            contract.read(path.read_bytes())


def test_a_later_version_says_its_number_and_leaves_what_it_adds_to_others():
    text = (Path(__file__).parent / "contracts" / "events.2.added_field.pass.json").read_text()
    record = CONTRACTS["events"].read(text)
    assert record.schema_version == 2
    assert "loyalty_hint" in text and not hasattr(record, "loyalty_hint")


def test_every_refusal_is_of_the_closed_list():
    reasons = [refusal.reason for contract in CONTRACTS.values() for refusal in value_refusals(contract)]
    assert len(reasons) > 50
    assert {code_of(reason) for reason in reasons} < REASONS.keys()
