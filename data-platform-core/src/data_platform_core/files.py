"""Files that a crash leaves whole."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write a file that is there as a whole or, after a crash, as it was before."""
    half = file.with_name(f"{file.name}.half")
    with half.open("w") as written:
        written.write(text)
        written.flush()
        os.fsync(written.fileno())
    half.replace(file)


def mend_last_line(file: Path) -> None:
    """Take away what a crash has left of a last line."""
    if file.exists():
        with file.open("r+b") as opened:
            opened.truncate(opened.read().rfind(b"\n") + 1)
