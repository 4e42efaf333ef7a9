"""dbt's commands one after the other in one process of its own environment, whose libraries are loaded once.

Reads requests as lines of JSON, `{"words", "folder", "target", "output"}`; answers each with a line: whether it succeeded.
"""

import json
import os
import sys
from pathlib import Path

from dbt.cli.main import dbtRunner


def main():
    """Carry out requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        with Path(request["output"]).open("wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.chdir(request["folder"])
        os.environ["DBT_TARGET_PATH"] = request["target"]
        done = dbtRunner().invoke(request["words"])
        sys.stdout.flush()
        if done.exception:
            print(repr(done.exception), flush=True)
        answers.write(f"{json.dumps(done.success)}\n")
        answers.flush()


if __name__ == "__main__":
    main()
