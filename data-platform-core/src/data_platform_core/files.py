"""Files that a crash leaves whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(file: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write that is there, and on disk, when the block ends; broken off before, it is as it was.

    `mode`: who may read and write it, less the process's umask; what the file had before does not count.
    """
    half = file.with_name(f"{file.name}.half")
    half.unlink(missing_ok=True)  # of a process that was killed, and maybe of another mode
    try:
        with open(half, "wb", opener=lambda path, flags: os.open(path, flags, mode)) as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        half.replace(file)
    finally:
        half.unlink(missing_ok=True)


def write_whole(file: Path, text: str, mode: int = 0o666) -> None:
    """Write a text as `whole_file`."""
    with whole_file(file, mode) as opened:
        opened.write(text.encode())


def mend_last_line(file: Path) -> None:
    """Take away what a crash has left of a last line."""
    if file.exists():
        with file.open("r+b") as opened:
            opened.truncate(opened.read().rfind(b"\n") + 1)
