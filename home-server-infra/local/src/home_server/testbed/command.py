"""`crm testbed`: a bed for a command, or for a shell."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from data_platform_core.errors import CrmError
from data_platform_core.settings import Settings, load_settings
from home_server import stack
from home_server.places import ROOT
from home_server.steps import run_steps
from home_server.testbed.base import base_steps, why_not
from home_server.testbed.bed import Host, laid_bed, run_in_bed

EXAMPLE_HOSTS = {
    "kafka-1": "192.0.2.11",
    "kafka-2": "192.0.2.12",
    "kafka-3": "192.0.2.13",
    "lake-1": "192.0.2.21",
    "warehouse-1": "192.0.2.31",
    "monitor-1": "192.0.2.41",
}
"""The hosts of the example inventory and their addresses."""


def run_testbed(settings: Settings, console: Console, command: Sequence[str]) -> int:
    """Run a command, or a shell, beside the hosts of the example inventory; its exit code.

    Raises:
        CrmError: this machine cannot have test hosts; says why.
    """
    reason = why_not()
    if reason:
        raise CrmError(reason)
    stack.set_up(settings, console)
    run_steps(base_steps(settings), console)
    inside = [sys.executable, "-m", "home_server.testbed.command", *command]
    return run_in_bed(settings, inside, dict(os.environ))


def _inside(command: Sequence[str]) -> int:
    settings = load_settings()
    with laid_bed(settings) as bed:
        for name, address in EXAMPLE_HOSTS.items():
            bed.lay(Host(name, address))
        with ThreadPoolExecutor() as pool:
            list(pool.map(bed.start, EXAMPLE_HOSTS))
        environment = os.environ | bed.environment()
        environment["PATH"] = f"{settings.home / 'bin'}:{environment['PATH']}"
        if not command:
            print("The hosts of ansible/inventories/home are up; `ansible-playbook kafka.yml` acts on them.")
            print("They are gone when you leave this shell.", flush=True)
        words = command or [os.environ.get("SHELL", "/bin/sh")]
        return subprocess.run(words, env=environment, cwd=ROOT / "ansible").returncode


if __name__ == "__main__":
    sys.exit(_inside(sys.argv[1:]))
