"""What dbt tells its users: what each table and column is, whether the data is of today, what became of a run."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROOT
from own_warehouse import days

from data_platform_core.contracts import GENERATED
from data_platform_core.settings import load_settings
from data_platform_core.warehouse import connect

pytestmark = pytest.mark.stack


def test_docs_describe_every_table_and_column_on_one_page(warehouse):
    warehouse.dbt("run")
    warehouse.dbt("docs", "generate", "--static")
    catalog, manifest = (json.loads(warehouse.artifact(f"{name}.json")) for name in ("catalog", "manifest"))
    models = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    described, held = models | manifest["sources"], catalog["nodes"] | catalog["sources"]
    assert held.keys() == described.keys() and len(held) >= 29
    for key, table in held.items():
        columns = described[key]["columns"]
        assert table["columns"].keys() == columns.keys(), key
        empty = [name for name, words in columns.items() if not words["description"].strip()]
        assert described[key]["description"].strip() and not empty, f"{key}: {empty}"
    page = warehouse.artifact("static_index.html")
    assert all(key in page for key in held)


def test_a_source_is_fresh_for_hours_after_its_publish(warehouse):
    for entity, records in days(load_settings())[0].items():
        warehouse.append(entity, records)
    warehouse.publish("first")
    for entity, age in {"events": "4 hours", "orders": "25 hours", "profiles": "25 hours"}.items():
        with connect(load_settings()) as connection:
            connection.execute(
                "update ops.publish_runs set fixed_at = fixed_at - %(age)s::interval,"
                " published_at = published_at - %(age)s::interval where entity = %(entity)s",
                {"age": age, "entity": entity},
            )
    warehouse.publish("second", entities=["profiles"])  # finds nothing new, which is as fresh as can be
    warehouse.dbt("source", "freshness", fails=True)
    results = json.loads(warehouse.artifact("sources.json"))["results"]
    told = {result["unique_id"].split(".")[-1]: result["status"] for result in results}
    assert [told[table] for table in (*GENERATED, "deleted_keys")] == ["warn", "error", "pass", "pass", "pass"]


def test_a_build_keeps_what_became_of_every_model_and_test_beside_its_model(warehouse):
    warehouse.dbt("build")
    with connect(load_settings(), "crm_dbt") as connection:
        kept = connection.execute("select kind, layer, model, node from ops.model_results").fetchall()
    assert {kind for kind, *_ in kept} == {"model", "test", "unit_test"}
    for _, layer, model, node in kept:
        assert model == "sources" or (ROOT / "dbt" / "models" / layer / f"{model}.sql").exists(), node


@pytest.mark.drill
def test_runs_side_by_side_leave_what_the_next_run_makes_whole(warehouse):
    """Airflow runs one at a time; one by hand beside it may fail on a name that the other has just taken."""
    first, second = days(load_settings())[:2]
    for number, day in enumerate((first, second)):
        for entity, records in day.items():
            warehouse.append(entity, records)
        warehouse.publish(f"day-{number}")
        if number == 0:
            warehouse.dbt("run")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: warehouse.dbt("run", target=name), ("one", "other")))
    warehouse.dbt("run")
    after_them = warehouse.models()
    warehouse.dbt("run", "--full-refresh")
    assert after_them == warehouse.models()
