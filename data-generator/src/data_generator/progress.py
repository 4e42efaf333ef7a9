"""How far a run is: a bar on a terminal, a plain line now and then without one, nothing where a machine reads."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_SECONDS_A_LINE = 10.0


class Progress:
    """Seconds of the world done of so many (None: without an end), and records made."""

    def __init__(self, total: float | None, is_silent: bool) -> None:
        console = Console(stderr=True)
        self._total, self._done, self._records = total, 0.0, 0
        self._lines = not is_silent and not console.is_terminal
        self._began = self._told = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, disable=is_silent or not console.is_terminal)
        self._task = self._bar.add_task("0 records", total=total)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, seconds: float, records: int) -> None:
        """So many more seconds of the world are done, with so many records."""
        self.reach(self._done + seconds, records)

    def reach(self, seconds: float, records: int) -> None:
        """So many seconds of the world are done in all, with so many records more."""
        self._done = seconds
        self._records += records
        now = time.monotonic()
        rate = self._records / max(now - self._began, 1e-9)
        self._bar.update(self._task, completed=self._done, description=f"{self._records:,} records, {rate:,.0f}/s")
        if self._lines and now - self._told >= _SECONDS_A_LINE:
            self._told = now
            left = ""
            if self._total:
                share = min(self._done / self._total, 1.0)
                left = f", {share:.0%}, {(now - self._began) * (1 - share) / max(share, 1e-9):.0f} s left"
            print(f"{self._records:,} records, {rate:,.0f}/s{left}", file=sys.stderr, flush=True)
