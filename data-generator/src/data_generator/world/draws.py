"""Random numbers without state: a draw is a hash of (seed, purpose, counter).

So any record can be made alone, in any order, by any number of workers. The mixing function is the
finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Characters = npt.NDArray[np.uint8]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Draws:
    """Draws of one world. `purpose` names what is drawn, `counter` for whom."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def bits(self, purpose: str, counter: U64) -> U64:
        """64 random bits each."""
        with np.errstate(over="ignore"):
            x = _mix(counter * _GOLDEN + self._key(purpose))
            x += _GOLDEN
            return _mix(x)

    def uniform(self, purpose: str, counter: U64) -> F64:
        """Uniform in [0, 1), 53 bits."""
        bits = self.bits(purpose, counter)
        bits >>= np.uint64(11)
        return bits.astype(np.float64) * 2.0**-53

    def integer(self, purpose: str, counter: U64, below: int) -> I64:
        """Uniform in 0 … below - 1."""
        return (self.uniform(purpose, counter) * below).astype(np.int64)

    def choice(self, purpose: str, counter: U64, weights: F64) -> I64:
        """An index, drawn by weight."""
        cumulative = np.cumsum(weights) / np.sum(weights)
        picked = np.searchsorted(cumulative, self.uniform(purpose, counter), side="right")
        return np.minimum(picked, len(weights) - 1).astype(np.int64)

    def ids(self, prefix: str, purpose: str, counter: U64) -> pa.Array:
        """Ids of 16 hexadecimal digits behind a prefix."""
        return self.as_ids(prefix, self.bits(purpose, counter))

    @staticmethod
    def as_ids(prefix: str, bits: U64) -> pa.Array:
        """Random bits as ids of 16 hexadecimal digits behind a prefix."""
        return _text(_hex(bits, prefix.encode()))

    def long_ids(self, purpose: str, counter: U64) -> pa.Array:
        """Ids of 32 hexadecimal digits."""
        lanes = [self.bits(f"{purpose}, {lane}", counter) for lane in ("high", "low")]
        return _text(np.concatenate([_hex(lane) for lane in lanes], axis=1))

    def _key(self, purpose: str) -> np.uint64:
        return _key(self._seed, purpose)


def hash_of(draws: Draws, purpose: str, *parts: U64 | I64 | int) -> U64:
    """One counter out of several, for draws that depend on all of them."""
    counter = np.zeros(1, dtype=np.uint64)
    for place, part in enumerate(parts):
        counter = draws.bits(f"{purpose}, part {place}", counter ^ np.asarray(part).astype(np.uint64))
    return counter


@lru_cache(maxsize=1024)
def _key(seed: int, purpose: str) -> np.uint64:
    word = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(word, "big"))


def _mix(x: U64) -> U64:
    """Mixes in place, which takes half the time."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


_DIGITS = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype="<u2")


def _hex(bits: U64, prefix: bytes = b"") -> Characters:
    """16 hexadecimal digits each, behind a prefix, as rows of characters."""
    rows = np.empty((len(bits), len(prefix) + 16), dtype=np.uint8)
    rows[:, : len(prefix)] = np.frombuffer(prefix, dtype=np.uint8)
    rows[:, len(prefix) :] = _DIGITS[bits.astype(">u8").view(np.uint8)].view(np.uint8).reshape(-1, 16)
    return rows


def _text(rows: Characters) -> pa.Array:
    """Rows of characters as texts."""
    count, width = rows.shape
    offsets = np.arange(0, width * count + 1, width, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(rows))
