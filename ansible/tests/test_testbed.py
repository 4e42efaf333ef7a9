"""The test bed takes back what it made, however it ends."""

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from conftest import wait_for

from data_platform_core.settings import load_settings


def start_bed(command):
    """A bed within this one; its folder and the process to end."""
    crm = str(load_settings().home / "bin" / "crm")
    script = f'echo "$CRM_BED"; {command}'
    process = subprocess.Popen(
        [crm, "testbed", "--", "sh", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("/") and "/beds/" in line:
            return process, Path(line.strip())
    raise AssertionError("the bed did not start")


def hosts_of(folder):
    return [p for p in psutil.process_iter(["cmdline"]) if any(str(folder) in word for word in p.info["cmdline"] or ())]


def cgroups_of(folder):
    return [path for path in Path("/sys/fs/cgroup").glob(f"*/{folder.name}") if path.is_dir()]


def test_ctrl_c_leaves_nothing(bed):
    process, folder = start_bed("sleep 1000")
    assert len(hosts_of(folder)) >= 6
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=240)
    assert hosts_of(folder) == [] == cgroups_of(folder)
    assert not folder.exists()


@pytest.mark.drill
def test_a_killed_bed_is_taken_back_by_the_kernel_and_its_folder_by_the_next(bed):
    process, folder = start_bed("sleep 1000")
    process.kill()
    process.communicate(timeout=240)
    wait_for(lambda: hosts_of(folder) == [], what="the end of its hosts")
    assert folder.exists()
    crm = str(load_settings().home / "bin" / "crm")
    subprocess.run([crm, "testbed", "--", "true"], check=True, capture_output=True)
    assert not folder.exists()
    assert cgroups_of(folder) == []


@pytest.mark.drill
def test_the_exit_code_is_that_of_the_command(bed):
    crm = str(load_settings().home / "bin" / "crm")
    assert subprocess.run([crm, "testbed", "--", "sh", "-c", "exit 7"], capture_output=True).returncode == 7
