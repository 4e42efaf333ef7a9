"""Shows the pages of gates and models in Airflow, and links them from the tasks that wrote them.

A task named `<what>_<layer>` that runs `crm gate` or `crm models` has its page at /quality/runs/<run>/<layer>.html,
for whoever has logged in.
"""

import os
import re
from pathlib import Path

from airflow.api_fastapi.core_api.security import get_user
from airflow.plugins_manager import AirflowPlugin
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import BaseOperatorLink
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse

PAGES = (Path(os.environ["CRM_STACK"]) / "data" / "quality").resolve()


class PageLink(BaseOperatorLink):
    """From a task to its page; known before it is written, so that a task that failed has it as well."""

    name = "Page"
    operators = [BashOperator]

    def get_link(self, operator, *, ti_key):
        """The page's address; empty for tasks that write none."""
        if not re.search(r"\bcrm (gate|models)\b", operator.bash_command):
            return ""
        run = re.sub(r"[^A-Za-z0-9_-]", "-", ti_key.run_id)
        return f"/quality/runs/{run}/{ti_key.task_id.rpartition('_')[2]}.html"


app = FastAPI(title="Quality", dependencies=[Depends(get_user)])


@app.get("/{name:path}")
def page(name: str) -> FileResponse:
    """A file below the pages' folder."""
    file = (PAGES / name).resolve()
    if not file.is_relative_to(PAGES) or not file.is_file():
        raise HTTPException(404, "no such page: old ones are removed after two weeks")
    return FileResponse(file)


class QualityPages(AirflowPlugin):
    """What Airflow loads of this file."""

    name = "quality_pages"
    fastapi_apps = [{"app": app, "url_prefix": "/quality", "name": "quality"}]
    external_views = [{"name": "Data Docs", "href": "/quality/index.html", "url_route": "data-docs"}]
    operator_extra_links = [PageLink()]
