import fcntl
import threading

from rich.console import Console

from data_platform_core.settings import Settings
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
