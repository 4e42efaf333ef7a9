"""The ledger of what was made: a file to which units of work are written before and after they are sent.

A unit that was begun and not finished is made again from its own words (the world is a function), so
that after any crash the ledger and Kafka agree again. A last line cut short by a crash is not a line.
"""

from __future__ import annotations

import fcntl
import json
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data_platform_core.derive.canonical import Digest
from data_platform_core.errors import CrmError, UsageError
from data_platform_core.files import mend_last_line, write_whole

_HOUR = 3_600_000_000
_JOINED_RECORDS = 200_000


@dataclass(frozen=True)
class Unit:
    """A unit of work of the generator: the records of one entity with event times within [start, end).

    Times are microseconds since 1970; the world is named by its id, and so is the plan of faults, where there is one.
    """

    entity: str
    start: int
    end: int
    world: str
    faults: str = ""

    @property
    def id(self) -> str:
        """Its name in the ledger."""
        return f"{self.entity}/{self.start}-{self.end}"


class Ledger:
    """Units begun and sent, in one append-only file. One writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the ledger for this process.

        Raises:
            UsageError: another generator writes to it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock_file.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(f"another generator is writing to {self.path}; wait for it or stop it") from None
            mend_last_line(self.path)
            self.compact()
            yield

    def is_held(self) -> bool:
        """Whether a generator writes to it now."""
        try:
            with self._lock_file.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    @property
    def _lock_file(self) -> Path:
        return self.path.with_suffix(".lock")

    def begin(self, units: Sequence[Unit]) -> None:
        """Write down units before their first record is sent: all of them or, cut short, none.

        Records refer to each other across entities: a sign-up's event begun without its profile would
        never get one.
        """
        self._append(_begun_line(units))

    def sent(self, digests: Sequence[tuple[Unit, Digest]]) -> None:
        """Write down units after the broker has acknowledged all their records."""
        self._append(_sent_line(digests))

    def compact(self) -> None:
        """Join units that were sent and follow each other within an hour, as the seconds of a live run do.

        Joined they hold so few records that they can be made again in memory. The file is replaced as a whole.
        """
        begun, sent = self.begun_units(), self.sent_units()
        done = [unit for unit in begun if unit.id in sent]
        joined: list[tuple[Unit, Digest]] = []
        for unit in sorted(done, key=lambda unit: (unit.entity, unit.start)):
            digest = sent[unit.id]
            if joined and _follows(joined[-1][0], unit) and joined[-1][1].count + digest.count <= _JOINED_RECORDS:
                before, sum_before = joined.pop()
                unit, digest = replace(unit, start=before.start), sum_before + digest
            joined.append((unit, digest))
        if len(joined) == len(done):
            return
        unfinished = [unit for unit in begun if unit.id not in sent]
        lines = (_begun_line([*(unit for unit, _ in joined), *unfinished]), _sent_line(joined))
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def sent_units(self) -> dict[str, Digest]:
        """Digest of every unit sent, by its id."""
        return {unit["id"]: _digest_of(unit) for unit in self._units("sent")}

    def begun_units(self) -> list[Unit]:
        """Every unit begun, once, with the words that make it again."""
        return list(dict.fromkeys(Unit(**words) for words in self._units("begun")))

    def unfinished_units(self) -> list[Unit]:
        """Units that were begun and never known to have been sent."""
        sent = self.sent_units()
        return [unit for unit in self.begun_units() if unit.id not in sent]

    def known(self) -> Callable[[str, int, int], list[tuple[int, int, Unit | None]]]:
        """A window [start, end) of an entity in parts, in order: of which unit each is, or of none; as it is now."""
        begun: dict[str, list[Unit]] = {}
        for unit in sorted(self.begun_units(), key=lambda unit: unit.start):
            begun.setdefault(unit.entity, []).append(unit)
        starts = {entity: [unit.start for unit in units] for entity, units in begun.items()}

        def parts(entity: str, start: int, end: int) -> list[tuple[int, int, Unit | None]]:
            found: list[tuple[int, int, Unit | None]] = []
            edges = starts.get(entity, [])
            # units never overlap: the one that begins before the window is the only one that may reach into it
            for unit in begun.get(entity, [])[max(bisect_right(edges, start) - 1, 0) : bisect_left(edges, end)]:
                if unit.start > start:
                    found.append((start, unit.start, None))
                if unit.end > start:
                    found.append((max(start, unit.start), min(end, unit.end), unit))
                start = max(start, unit.end)
            return [*found, (start, end, None)] if start < end else found

        return parts

    def missing(self) -> Callable[[str, int, int], list[tuple[int, int]]]:
        """What of a window [start, end) of an entity was never begun, as parts in order; as the ledger is now."""
        known = self.known()
        return lambda entity, start, end: [(low, high) for low, high, unit in known(entity, start, end) if unit is None]

    def worlds(self) -> set[str]:
        """The worlds whose records the ledger holds; more than one can never agree with one lake."""
        return {str(unit["world"]) for unit in self._units("begun")}

    def made(self, entity: str) -> Digest:
        """Digest of all that was made of an entity."""
        total = Digest()
        seen = {unit["id"]: unit for unit in self._units("sent")}
        for unit in seen.values():
            if unit["entity"] == entity:
                total += _digest_of(unit)
        return total

    def _units(self, state: str) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        for number, line in enumerate(self.path.read_text(errors="replace").splitlines(keepends=True), 1):
            if not line.endswith("\n"):
                break
            try:
                group = json.loads(line)
            except ValueError:
                raise CrmError(
                    f"{self.path}, line {number}, is no line of a ledger: {line.strip()[:80]}; "
                    "bring back a copy of the file, or begin anew with `crm reset` or an empty folder"
                ) from None
            if group["state"] == state:
                if "units" not in group or any("kind" in unit for unit in group["units"]):
                    raise UsageError(
                        f"{self.path} was written by an earlier version, whose world was another one: "
                        "begin anew with `crm reset`, or with an empty folder"
                    )
                yield from group["units"]

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _follows(before: Unit, unit: Unit) -> bool:
    """Whether two units can be one: the same of another time, in the same hour."""
    is_next = unit.start == before.end and (unit.end - 1) // _HOUR == before.start // _HOUR
    return is_next and replace(unit, start=before.start, end=before.end) == before


def _begun_line(units: Sequence[Unit]) -> dict[str, Any]:
    return {"state": "begun", "units": [asdict(unit) for unit in units]}


def _sent_line(digests: Sequence[tuple[Unit, Digest]]) -> dict[str, Any]:
    words = ({"id": u.id, "entity": u.entity, "count": d.count, "digest": d.hex} for u, d in digests)
    return {"state": "sent", "units": list(words)}


def _digest_of(line: dict[str, Any]) -> Digest:
    return Digest.from_hex(line["count"], line["digest"])
