import fcntl
import threading

from rich.console import Console

from data_platform_core.settings import Settings
from home_server.processes import Processes
from home_server.stack import run_plan
from home_server.steps import Step


def test_a_plan_waits_for_one_that_is_under_way(tmp_path):
    settings, done, console = Settings(stack=tmp_path), [], Console(quiet=True)
    lock = tmp_path / "run" / "plan.lock"
    lock.parent.mkdir()
    plan = threading.Thread(target=run_plan, args=(settings, [Step("one", lambda: done.append("one"))], console))
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        plan.start()
        plan.join(1.0)
        assert plan.is_alive() and not done
    plan.join(10.0)
    assert done == ["one"]


def test_a_plan_takes_no_other_component_for_stopped(tmp_path):
    """A death stands until its component is started or stopped: the watch starts again what died."""
    settings, console = Settings(stack=tmp_path), Console(quiet=True)
    pid_file = tmp_path / "run" / "stream.pid"
    pid_file.parent.mkdir()
    pid_file.write_text("999999999")
    run_plan(settings, [Step("minio", lambda: None)], console)
    assert Processes(tmp_path).has_died("stream")
