"""Compacts the lake's tables and removes files that no version within the retention needs.

Owner: data platform. Runs daily, or when triggered with its form. It asks the streaming application, the tables' only
writer, and waits. Safe to clear and to retry: what is compact stays as it is.

When `maintain` fails: its log names the table and why; nothing that a reader, a publish or time travel within the
retention needs was removed. When it waits: `crm requests` shows what the application is at.
"""

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Param, dag


@dag(
    schedule="30 3 * * *",
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={"owner": "data-platform", "retries": 2, "retry_delay": timedelta(minutes=5)},
    dagrun_timeout=timedelta(hours=6),
    params={
        "retention_hours": Param(168, type="number", minimum=1, description="Hours that files of old versions stay"),
        "compact_only": Param(False, type="boolean", description="Join small files, and remove none"),
    },
    tags=["layer:lake"],
    doc_md=__doc__,
)
def crm_lake_maintenance():
    BashOperator(
        task_id="maintain",
        bash_command="crm maintenance --retention {{ params.retention_hours }}"
        "{{ ' --compact-only' if params.compact_only }}",
        execution_timeout=timedelta(hours=5),
    )


crm_lake_maintenance()
