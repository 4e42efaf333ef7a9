"""Publishes what silver has to PostgreSQL, checks it, and builds the warehouse and the marts on it.

Owner: data platform. Runs hourly, or when triggered. Safe to clear and to retry: a run takes the very
lake versions it took before, and changes nothing that is there already.

When `publish` or `gate` fails: its log says what and why; the marts stay as they were. Mend the rows
that the gate names (or the lake), and clear the task or trigger a new run.
When `model` fails: the log of `dbt build` names the model or the test.
"""

from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Param, dag
from cosmos import DbtBuildLocalOperator, ProfileConfig

DBT = Path(__file__).parents[1] / "dbt"
PROFILE = ProfileConfig(profile_name="crm", target_name="warehouse", profiles_yml_filepath=DBT / "profiles.yml")
ENTITIES = ["events", "orders", "products", "profiles"]


# no start_date: the first scheduled run is the next full hour, not the one before the stack was up
@dag(
    schedule="@hourly",
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={"owner": "data-platform", "retries": 2, "retry_delay": timedelta(seconds=20)},
    dagrun_timeout=timedelta(minutes=50),
    params={
        "entities": Param(ENTITIES, type="array", items={"enum": ENTITIES}, description="Which entities to publish"),
        "full_refresh": Param(False, type="boolean", description="Build all models from nothing"),
    },
    tags=["layer:warehouse", "layer:marts"],
    doc_md=__doc__,
)
def crm_publish_and_model():
    run = {"env": {"RUN": "{{ run_id }}", "ENTITIES": "{{ params.entities | join(' ') }}"}, "append_env": True}
    publish = BashOperator(task_id="publish", bash_command='crm publish --run "$RUN" $ENTITIES', **run)
    gate = BashOperator(task_id="gate", bash_command='crm gate --run "$RUN"', retries=0, **run)
    model = DbtBuildLocalOperator(
        task_id="model",
        project_dir=str(DBT),
        profile_config=PROFILE,
        dbt_executable_path="dbt",
        full_refresh="{{ params.full_refresh }}",
        install_deps=False,
    )
    publish >> gate >> model


crm_publish_and_model()
