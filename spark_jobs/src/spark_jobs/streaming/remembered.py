"""Which keys silver holds, remembered by hash for the stretches of event time that records fall on.

A key's event time never changes, so a repeat falls on its first arrival's stretch. A stretch that is
not remembered is learnt from silver before it is asked about; those not asked about for longest are
forgotten, so that memory is bounded whatever the event times are. Silver has one writer, so a stretch of
which it held nothing at first, and to which nothing was added, is empty without being read: records dated
ahead make every file of silver one that might hold it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

STRETCH_MICROSECONDS = 600_000_000
"""Length of a stretch: ten minutes."""

_LONGEST_RANGE = 7 * 144
"""A week of stretches."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Keys:
    """Keys of records: two independent hashes of each (64 bits) and its event time in microseconds."""

    hashes: Integers
    checks: Integers
    occurred: Integers

    @classmethod
    def of(cls, keys: pl.DataFrame, occurred: Integers) -> Keys:
        """The keys of a frame whose columns make one up; the hashes hold within this process only."""
        hashes, checks = (keys.hash_rows(seed).to_numpy().view(np.int64) for seed in (1, 2))
        return cls(hashes, checks, occurred)

    @classmethod
    def joined(cls, parts: list[Keys]) -> Keys:
        """All keys of some sets, in their order."""
        if not parts:
            return cls(*(np.empty(0, np.int64) for _ in range(3)))
        return cls(
            np.concatenate([part.hashes for part in parts]),
            np.concatenate([part.checks for part in parts]),
            np.concatenate([part.occurred for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.hashes)

    def on(self, stretches: list[int]) -> Keys:
        """Those that fall on some stretches."""
        return self[np.isin(self.stretches, stretches)]

    @property
    def stretches(self) -> Integers:
        """The stretch of event time on which each falls."""
        return self.occurred // STRETCH_MICROSECONDS

    def __getitem__(self, chosen: npt.NDArray[np.bool_] | Integers | slice) -> Keys:
        return Keys(self.hashes[chosen], self.checks[chosen], self.occurred[chosen])


class Remembered:
    """The keys of the stretches asked about last: at most `limit` after each `trim`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._stretches: OrderedDict[int, tuple[Integers, Integers]] = OrderedDict()
        self._spans: list[tuple[int, int]] | None = None
        self._let_go: set[int] = set()
        self.count = 0

    @property
    def has_begun(self) -> bool:
        """Whether it is known where silver held anything at first."""
        return self._spans is not None

    def begin(self, spans: list[tuple[int, int]]) -> None:
        """Say on which spans of event time (microseconds, both ends among them) silver may hold anything."""
        self._spans = [(first // STRETCH_MICROSECONDS, last // STRETCH_MICROSECONDS) for first, last in spans]

    @property
    def bytes(self) -> int:
        """What the keys take."""
        return sum(part.nbytes for parts in self._stretches.values() for part in parts)

    def unknown(self, keys: Keys) -> list[int]:
        """The stretches of these keys that are not remembered, ascending; one that is surely empty is from now on."""
        new = [int(stretch) for stretch in np.unique(keys.stretches) if int(stretch) not in self._stretches]
        found = [stretch for stretch in new if self._may_hold(stretch)]
        self._know(set(new) - set(found))
        return found

    def _may_hold(self, stretch: int) -> bool:
        if self._spans is None or stretch in self._let_go:
            return True
        return any(first <= stretch <= last for first, last in self._spans)

    def _know(self, stretches: set[int]) -> None:
        for stretch in sorted(stretches):
            self._stretches[stretch] = (np.empty(0, np.int64), np.empty(0, np.int64))

    def learn(self, ranges: list[tuple[int, int]], asked: list[int], held: Keys) -> None:
        """Remember all keys that silver holds of ranges of stretches, among them those asked about.

        Of a range that is very long, only the stretches asked about: an empty one takes memory, too.
        """
        within = {each for first, last in ranges if last - first < _LONGEST_RANGE for each in range(first, last + 1)}
        new = (within | set(asked)) - self._stretches.keys()
        self._know(new)
        self.add(held.on(sorted(new)))

    def are_held(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Which of these keys silver holds; their stretches must be known."""
        held = np.zeros(len(keys.hashes), dtype=np.bool_)
        for stretch, rows in _by_stretch(keys):
            hashes, checks = self._stretches[stretch]
            self._stretches.move_to_end(stretch)
            if len(hashes):
                places = np.minimum(np.searchsorted(hashes, keys.hashes[rows]), len(hashes) - 1)
                held[rows] = (hashes[places] == keys.hashes[rows]) & (checks[places] == keys.checks[rows])
        return held

    def add(self, keys: Keys) -> None:
        """Remember keys that silver holds now; stretches that are not known stay unknown."""
        for stretch, rows in _by_stretch(keys):
            if stretch not in self._stretches:
                continue
            hashes, checks = self._stretches[stretch]
            new = rows[np.argsort(keys.hashes[rows], kind="stable")]
            places = np.searchsorted(hashes, keys.hashes[new])
            self._stretches[stretch] = (
                np.insert(hashes, places, keys.hashes[new]),
                np.insert(checks, places, keys.checks[new]),
            )
            self.count += len(new)

    def trim(self) -> None:
        """Forget the stretches asked about longest ago, where there are too many keys."""
        while self.count > self._limit and len(self._stretches) > 1:
            stretch, (hashes, _) = self._stretches.popitem(last=False)
            self._let_go.add(stretch)
            self.count -= len(hashes)

    def forget(self) -> None:
        """Forget everything: after a write of which it is not known whether it was committed."""
        self._stretches.clear()
        self._let_go.clear()
        self._spans = None
        self.count = 0


def repeats_within(keys: Keys) -> npt.NDArray[np.bool_]:
    """Which keys stood in this set before, in its order."""
    order = np.lexsort((np.arange(len(keys.hashes)), keys.checks, keys.hashes))
    same = (np.diff(keys.hashes[order]) == 0) & (np.diff(keys.checks[order]) == 0)
    repeated = np.zeros(len(order), dtype=np.bool_)
    repeated[order[1:][same]] = True
    return repeated


def _by_stretch(keys: Keys) -> list[tuple[int, Integers]]:
    """Each stretch with the places of its keys."""
    stretches = keys.stretches
    order = np.argsort(stretches, kind="stable")
    names, starts = np.unique(stretches[order], return_index=True)
    if not len(names):
        return []
    return [(int(name), rows) for name, rows in zip(names, np.split(order, starts[1:]), strict=True)]


def ranges_of(stretches: list[int], at_most: int = 24) -> list[tuple[int, int]]:
    """The stretches as ranges [first, last], the narrowest gaps closed where there would be more than so many."""
    if not stretches:
        return []
    gaps = np.diff(stretches)
    breaks = np.flatnonzero(gaps > 1)
    if len(breaks) >= at_most:
        breaks = np.sort(breaks[np.argsort(-gaps[breaks], kind="stable")[: at_most - 1]])
    starts = [0, *(int(b) + 1 for b in breaks)]
    ends = [*(int(b) for b in breaks), len(stretches) - 1]
    return [(stretches[a], stretches[b]) for a, b in zip(starts, ends, strict=True)]
