"""Checks all that is published and writes the pages of it; on request, holds every store against what was made.

Owner: data platform. Runs nightly, or when triggered with its form. Safe to clear and to retry: it changes no row.

When `gate_published` fails: its page names the expectation and the rows; the hourly gate looks at what is new only, so
that they were changed since (runbook gate-closed). When `test_staging` fails: its log names the test; the hourly run
leaves out those of sources and staging, which look at all rows. When `audit` fails: a store does not hold what was made
(runbook stores-disagree).
"""

from datetime import timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Param, dag

DBT = Path(__file__).parents[1] / "dbt"


@dag(
    schedule="30 4 * * *",
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args={"owner": "data-platform", "retries": 0, "execution_timeout": timedelta(hours=2)},
    dagrun_timeout=timedelta(hours=3),
    params={
        "audit": Param(False, type="boolean", description="Count and compare every store; for when no traffic runs"),
    },
    tags=["layer:warehouse", "quality"],
    doc_md=__doc__,
)
def crm_quality_report():
    run = {"env": {"RUN": "{{ run_id }}"}, "append_env": True}
    BashOperator(task_id="gate_published", bash_command='crm gate --whole --run "$RUN"', **run)
    BashOperator(
        task_id="test_staging",
        bash_command="dbt build --select path:models/staging",
        cwd=str(DBT),
        retries=1,  # another run may be at the same views
        env={"CRM_RUN": "{{ run_id }}"},
        append_env=True,
    )
    BashOperator(task_id="audit", bash_command="{{ 'crm audit' if params.audit else 'exit 99' }}")


crm_quality_report()
