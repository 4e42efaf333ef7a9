"""`python -m spark_jobs.streaming`: runs until it is told to stop, or until a query fails."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from pyspark.errors import StreamingQueryException

from data_platform_core.errors import CrmError
from data_platform_core.settings import load_settings
from spark_jobs.session import spark_session
from spark_jobs.streaming.queries import start_queries


def main() -> int:
    """Run the application; returns its exit code."""
    arguments = argparse.ArgumentParser(prog="crm-stream", description=__doc__)
    arguments.add_argument("--ready-file", type=Path, help="written once all queries run")
    ready_file: Path | None = arguments.parse_args().ready_file
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    settings = load_settings()
    spark = spark_session("crm-stream")
    queries = start_queries(spark, settings)
    if ready_file:
        ready_file.write_text("ready\n")
    while not stop.wait(1.0):
        for query in queries:
            if not query.isActive:
                print(f"crm-stream: the query {query.name} ended: {_reason(query.exception())}", file=sys.stderr)
                return 1
    for query in queries:
        query.stop()
    spark.stop()
    return 0


def _reason(error: StreamingQueryException | None) -> str:
    return str(error).strip() if error else "it was stopped"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CrmError as error:
        print(f"crm-stream: {error}", file=sys.stderr)
        sys.exit(1)
