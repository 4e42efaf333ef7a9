"""Components are found and stopped whatever happened to whoever started them."""

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from data_platform_core.errors import ComponentFailed
from home_server.processes import Component, Processes

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(300)"]


def component(command=SLEEPER, is_ready=lambda: True, **words):
    return Component(name="thing", command=command, env=dict(os.environ), is_ready=is_ready, **words)


@pytest.fixture
def processes(tmp_path):
    found = Processes(tmp_path)
    yield found
    found.stop("thing", within_seconds=1.0)


def alive(processes):
    deadline = time.monotonic() + 10
    while (process := processes.find("thing")) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


def is_gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_started_component_is_found_and_stopped(processes):
    processes.start(component())
    process = alive(processes)
    assert process is not None
    assert processes.stop("thing")
    assert is_gone(process)
    assert processes.find("thing") is None
    assert not processes.has_died("thing")


def test_a_component_that_was_killed_has_died_and_its_last_words_are_told(processes):
    processes.start(component(is_ready=lambda: "up" in processes.log("thing").read_text()))
    process = alive(processes)
    processes.check_alive(["thing"])
    process.kill()
    process.wait()
    assert processes.has_died("thing")
    with pytest.raises(ComponentFailed, match=r"thing died; see .*thing.log:\n  up"):
        processes.check_alive(["thing"])


def test_what_died_and_cannot_be_started_again_has_not_been_stopped(processes):
    processes.start(component())
    process = alive(processes)
    assert processes.end("thing")
    assert is_gone(process) and processes.has_died("thing")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ComponentFailed, match="is taken"):
            processes.start(component(ports={"thing": other.getsockname()[1]}))
    assert processes.has_died("thing")
    processes.stop("thing")
    assert not processes.has_died("thing")


def test_starting_what_lives_starts_nothing(processes):
    processes.start(component())
    first = alive(processes).pid
    processes.start(component())
    assert processes.find("thing").pid == first


def test_children_are_stopped_with_their_parent(processes, tmp_path):
    child = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']); open('child', 'w').write(str(p.pid)); time.sleep(300)"
    processes.start(component([sys.executable, "-c", child], is_ready=(tmp_path / "child").exists))
    deadline = time.monotonic() + 10
    while not (text := (tmp_path / "child").read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert psutil.pid_exists(int(text))
    processes.stop("thing")
    assert not psutil.pid_exists(int(text)) or is_gone(psutil.Process(int(text)))


def test_a_killed_starter_leaves_nothing_that_cannot_be_found(processes, tmp_path):
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom home_server.processes import Component, Processes\n"
        "Processes(Path(sys.argv[1])).start(Component('thing', [sys.executable, '-c', 'import time; time.sleep(300)'],"
        " dict(os.environ), is_ready=lambda: os.kill(os.getpid(), 9)))\n"
    )
    starter = subprocess.run([sys.executable, "-c", script, str(tmp_path)])
    assert starter.returncode == -signal.SIGKILL
    process = alive(processes)
    assert process is not None, "the component of the killed starter was not found"
    assert processes.stop("thing")
    assert is_gone(process)


def test_a_component_that_dies_while_starting_is_told_with_its_last_words(processes):
    dying = component([sys.executable, "-c", "print('no such file: /x'); raise SystemExit(3)"], is_ready=lambda: False)
    with pytest.raises(ComponentFailed, match=r"thing died while starting; see .*thing\.log:\n  no such file: /x"):
        processes.start(dying)


def test_a_full_disk_is_named(processes):
    full = component([sys.executable, "-c", "print('write: No space left on device')"], is_ready=lambda: False)
    with pytest.raises(ComponentFailed, match="the disk is full"):
        processes.start(full)


def test_a_component_that_is_never_ready_is_told(processes):
    with pytest.raises(ComponentFailed, match="does not answer after 1 s; see"):
        processes.start(component(is_ready=lambda: False, ready_within_seconds=1.0))


def test_a_taken_port_is_named_with_who_holds_it(processes):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ComponentFailed, match=rf"port {port}, which Thing needs, is taken by .*pid {os.getpid()}"):
            processes.start(component(ports={"Thing": port}))
    assert processes.find("thing") is None


def test_a_pid_given_to_another_process_is_not_ours(processes, tmp_path):
    processes.start(component())
    pid_file = tmp_path / "run" / "thing.pid"
    alive(processes)
    processes.stop("thing")
    pid_file.write_text(str(os.getpid()))
    long_ago = time.time() - 10 * 365 * 86_400
    os.utime(pid_file, (long_ago, long_ago))
    assert processes.find("thing") is None


@pytest.mark.parametrize("mend", ["stop", "end", "start"])
def test_what_a_killed_leader_left_behind_is_found_and_ended(processes, tmp_path, mend):
    child = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']);"
        "open('half', 'w').write(str(p.pid)); import os; os.rename('half', 'child'); time.sleep(300)"
    )
    processes.start(component([sys.executable, "-c", child], is_ready=(tmp_path / "child").exists))
    orphan = psutil.Process(int((tmp_path / "child").read_text()))
    leader = alive(processes)
    os.kill(leader.pid, signal.SIGKILL)  # the leader only
    leader.wait()
    assert orphan.is_running()
    if mend == "stop":
        assert processes.stop("thing")
    elif mend == "end":
        assert processes.end("thing")
    else:
        processes.start(component())
    assert is_gone(orphan)
