"""`python -m spark_jobs.streaming`: runs until it is told to stop, or until a query fails for good."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
from pathlib import Path

from data_platform_core.errors import CrmError
from data_platform_core.settings import load_settings
from spark_jobs.streaming.application import Application
from spark_jobs.streaming.log import configure_logging


def main() -> int:
    """Run the application; returns its exit code."""
    arguments = argparse.ArgumentParser(prog="crm-stream", description=__doc__)
    arguments.add_argument("--ready-file", type=Path, help="written once events and orders are read; masters follow")
    ready_file: Path | None = arguments.parse_args().ready_file
    configure_logging()
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    log = logging.getLogger("crm-stream")
    try:
        with Application(load_settings()) as application:
            application.start()
            if ready_file:
                ready_file.write_text("ready\n")
            while not stop.wait(1.0):
                application.look()
    except CrmError as error:
        log.error("%s", error)
        return 1
    except Exception:
        log.exception("the application ended by an error that it does not know")
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # at once: a thread may wait for an answer of a Spark that was stopped, and Python would wait for the thread
    os._exit(code)
