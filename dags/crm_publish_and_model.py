"""Publishes what silver has to PostgreSQL, checks it on both sides, and builds the warehouse and the marts on it.

Owner: data platform. Runs hourly, after a backfill, or when triggered with its form. Safe to clear and to retry: a run
takes the very lake versions it took before, and changes nothing that is there already.

When `gate_silver` fails: nothing was published. When `publish` fails: nothing of the entity at hand was written. When
`gate_published` fails: the marts stay as they were. Each log, and the gates' page, names the rows and the way back
(runbook gate-closed); then trigger a new run.
When `model` fails: the page of `show_warehouse` or `show_marts` names the model or the test.
"""

import json
from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Asset, AssetOrTimeSchedule, CronTriggerTimetable, Param, chain, dag
from cosmos import DbtBuildLocalOperator, ProfileConfig

DBT = Path(__file__).parents[1] / "dbt"
PROFILE = ProfileConfig(profile_name="crm", target_name="warehouse", profiles_yml_filepath=DBT / "profiles.yml")
ENTITIES = json.loads((Path(__file__).parent / "entities.json").read_text())
SOME = {"type": "array", "minItems": 1, "items": {"enum": ENTITIES["all"]}}
HOURLY = CronTriggerTimetable("0 * * * *", timezone="UTC", run_immediately=timedelta(0))
"""A stack that comes up waits for the next full hour; by default it would run one that has just gone by."""


@dag(
    schedule=AssetOrTimeSchedule(timetable=HOURLY, assets=[Asset("silver")]),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={
        "owner": "data-platform",
        "retries": 2,
        "retry_delay": timedelta(seconds=20),
        "execution_timeout": timedelta(minutes=40),
    },
    dagrun_timeout=timedelta(minutes=50),
    params={
        "entities": Param(ENTITIES["all"], **SOME, description="Which entities to publish"),
        "full_refresh": Param(False, type="boolean", description="Build all models from nothing"),
    },
    tags=["layer:warehouse", "layer:marts"],
    doc_md=__doc__,
)
def crm_publish_and_model():
    run = {"env": {"RUN": "{{ run_id }}", "ENTITIES": "{{ params.entities | join(' ') }}"}, "append_env": True}
    gate = run | {"retries": 1}  # what is wrong with the rows stays wrong; a task that could not start does not
    show = run | {"trigger_rule": "one_done", "retries": 0}  # as well where the build failed
    # the models are built of all that is published, whatever this run brought: so much the second gate looks at
    chain(
        BashOperator(task_id="gate_silver", bash_command='crm gate --layer silver --run "$RUN" $ENTITIES', **gate),
        BashOperator(task_id="publish", bash_command='crm publish --run "$RUN" $ENTITIES', **run),
        BashOperator(task_id="gate_published", bash_command='crm gate --run "$RUN"', **gate),
        DbtBuildLocalOperator(
            task_id="model",
            project_dir=str(DBT),
            profile_config=PROFILE,
            dbt_executable_path="dbt",
            full_refresh="{{ params.full_refresh }}",
            exclude="resource_type:test,path:models/staging",  # they look at all rows: nightly
            install_deps=False,
            env={"CRM_RUN": "{{ run_id }}"},
            append_env=True,
        ),
        [
            *(
                BashOperator(task_id=f"show_{layer}", bash_command=f'crm models --layer {layer} --run "$RUN"', **show)
                for layer in ("staging", "warehouse", "marts")
            ),
            EmptyOperator(task_id="built", outlets=[Asset("marts")]),
        ],
    )


crm_publish_and_model()
