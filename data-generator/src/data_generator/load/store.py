"""The load profile of a ledger, in a file beside it: one line a change, appended, never rewritten."""

from __future__ import annotations

import fcntl
import json
from dataclasses import asdict
from pathlib import Path

from data_generator.world.load import Change, Profile
from data_platform_core.errors import CrmError
from data_platform_core.files import mend_last_line, write_whole


class ProfileFile:
    """Changes of the load that were made while traffic ran; what makes that traffic again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Profile:
        """The profile as it is now.

        Raises:
            CrmError: a line is none of ours.
        """
        if not self.path.exists():
            return Profile()
        changes = []
        for number, line in enumerate(self.path.read_text(errors="replace").splitlines(keepends=True), 1):
            if not line.endswith("\n"):
                break  # cut short by a crash: it was never in force
            try:
                changes.append(Change(**json.loads(line)))
            except (ValueError, TypeError):
                raise CrmError(f"{self.path}, line {number}, is no change of the load: {line.strip()[:80]}") from None
        return Profile(tuple(changes))

    def ask_for(self, tps: float) -> None:
        """Leave another rate for the live run that is going on; only that run writes to its profile."""
        write_whole(self._wish, str(tps))

    def asked_for(self) -> float | None:
        """Take the rate that was left, if any."""
        taken = self._wish.with_suffix(".taken")
        try:
            self._wish.replace(taken)
        except FileNotFoundError:
            return None
        return float(taken.read_text())

    @property
    def _wish(self) -> Path:
        return self.path.with_name("rate.txt")

    def append(self, *changes: Change) -> Profile:
        """Write changes behind what is there; returns the profile with them.

        A change that would lie before the last is moved to it: the past of a profile never changes.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            profile = self.read()
            mend_last_line(self.path)
            for change in changes:
                last = profile.changes[-1].at if profile.changes else change.at
                moved = Change(**asdict(change) | {"at": max(change.at, last)})
                profile = profile.grown(moved)
                file.write(json.dumps(asdict(moved)) + "\n")
        return profile
