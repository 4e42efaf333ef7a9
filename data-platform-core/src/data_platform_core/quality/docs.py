"""Pages of what was checked and built, which Airflow shows: one a run and layer, and Data Docs of Great Expectations.

They are files in the stack's folder: `runs/<run>/<layer>.html`, and `validations/…` for each suite and run.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data_platform_core.settings import Settings

_KEPT_SECONDS = 14 * 24 * 3600


def pages(settings: Settings) -> Path:
    """The folder whose files Airflow shows under `/quality`."""
    return settings.stack_dir / "data" / "quality"


def name_of(run_id: str) -> str:
    """A run's name as a part of an address; Airflow's run ids have colons, dots and signs."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", run_id)


def write_page(settings: Settings, run_id: str, layer: str, table: Table) -> str:
    """Write the page of a run and layer; returns its address."""
    recorder = Console(file=io.StringIO(), record=True, width=160, highlight=False)
    recorder.print(f"run {run_id}", markup=False)
    recorder.print(table)
    name = f"runs/{name_of(run_id)}/{layer}.html"
    page = pages(settings) / name
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(recorder.export_html())
    return f"{settings.airflow_url}/quality/{name}"


def new_context(settings: Settings) -> Any:
    """A context whose Data Docs go into the pages' folder."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")  # read by the library as it is imported
    import great_expectations as gx

    folder = pages(settings)
    folder.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}  # type: ignore[assignment]
    for name in context.get_site_names():
        context.delete_data_docs_site(name)
    context.add_data_docs_site(
        "pages",
        {
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {
                "module_name": "data_platform_core.quality.site",
                "class_name": "KeptPages",
                "base_directory": str(folder),
            },
        },
    )
    return context


def remove_old_pages(settings: Settings) -> None:
    """Remove the pages of runs that are older than two weeks."""
    oldest = time.time() - _KEPT_SECONDS
    for pattern in ("validations/*/*", "runs/*"):
        for folder in pages(settings).glob(pattern):
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
