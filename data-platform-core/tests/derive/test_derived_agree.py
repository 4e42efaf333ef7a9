"""Every derived schema says what the contract says, and none has a field of its own."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from data_platform_core.cli.contracts import derived_files
from data_platform_core.contracts import CONTRACTS
from data_platform_core.derive.arrow import arrow_schema
from data_platform_core.derive.dbt import dbt_sources_text
from data_platform_core.derive.expectations import expectations_of
from data_platform_core.derive.fields import fields_of, published_fields_of
from data_platform_core.derive.json_schema import json_schema
from data_platform_core.derive.postgres import PUBLISHED_COLUMNS, create_table
from data_platform_core.derive.spark import json_ddl, plain_pattern, table_ddl

ROOT = Path(__file__).parents[3]
every_contract = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda c: c.entity)


@every_contract
def test_all_derivations_have_the_fields_of_the_contract_in_their_order(contract):
    names = [field.name for field in fields_of(contract)]
    assert sorted(names) == sorted(contract.model_fields)
    assert arrow_schema(contract).names == names
    top_level = re.sub(r"<.*?>", "", table_ddl(contract).replace("array<struct<", "<").replace(">>", ">"))
    assert [column.split()[0] for column in top_level.split(", ")] == names
    assert all(f"{name} " in json_ddl(contract) for name in names)
    assert [name for name in re.findall(r'"(\w+)":', plain_pattern(contract)) if name in contract.model_fields] == names
    columns = re.findall(r"^  (\w+) ", create_table(contract), re.M)
    published = [field.name for field in published_fields_of(contract)]
    assert published == names + ["effective_at"] * contract.is_master
    assert columns == [*published, *(name for name, *_ in PUBLISHED_COLUMNS), "primary"]
    assert set(json_schema(contract)["properties"]) == set(names)


@every_contract
def test_nullability_is_the_same_everywhere(contract):
    nullable = {field.name for field in fields_of(contract) if field.is_nullable}
    assert {field.name for field in arrow_schema(contract) if field.nullable} == nullable
    gated = {
        e.arguments["column"] for e in expectations_of(contract) if e.name == "expect_column_values_to_not_be_null"
    }
    assert gated == {field.name for field in published_fields_of(contract)} - nullable
    optional_in_sql = {
        line.split()[0]
        for line in create_table(contract).splitlines()
        if line.startswith("  ") and "not null" not in line
    }
    assert optional_in_sql - {"primary"} == nullable


def test_constraints_reach_the_gate():
    orders = expectations_of(CONTRACTS["orders"])
    totals = [e for e in orders if e.arguments.get("column") == "total_minor" and "min_value" in e.arguments]
    assert totals[0].arguments == {"column": "total_minor", "min_value": 0, "max_value": 10**15}


def test_dbt_source_lists_the_columns_of_the_published_tables():
    (source,) = yaml.safe_load(dbt_sources_text())["sources"]
    entities = [table for table in source["tables"] if table["name"] in CONTRACTS]
    assert len(entities) == len(CONTRACTS)
    for table in entities:
        columns = re.findall(r"^  (\w+) ", create_table(CONTRACTS[table["name"]]), re.M)
        assert [column["name"] for column in table["columns"]] == columns[:-1]


@every_contract
def test_every_field_says_what_it_is(contract):
    fields = [field for spec in fields_of(contract) for field in (spec, *spec.parts)]
    assert [field.name for field in fields if not field.description] == []


def test_committed_derived_files_are_fresh():
    stale = [str(path) for path, text in derived_files(ROOT).items() if path.read_text() != text]
    assert stale == []


def test_money_is_never_a_float():
    for contract in CONTRACTS.values():
        assert not any(pa.types.is_floating(field.type) for field in arrow_schema(contract))
