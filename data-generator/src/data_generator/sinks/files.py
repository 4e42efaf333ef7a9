"""Files: one NDJSON file a unit of work, there whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from data_generator.encode import lines_of
from data_platform_core.errors import CrmError


class FileSink:
    """Writes `<folder>/<entity>/<unit>.ndjson`; a file of the same unit is replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, entity: str, unit: str, table: pa.Table) -> None:
        """Write the unit's file; raises CrmError where that cannot be done."""
        target = self._folder / entity / f"{unit}.ndjson"
        half = target.with_suffix(".half")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with half.open("wb") as file:
                file.writelines(line + b"\n" for line in lines_of(entity, table))
                file.flush()
                os.fsync(file.fileno())
            half.replace(target)
        except OSError as error:
            with suppress(OSError):
                half.unlink()
            raise CrmError(f"{target} could not be written: {error.strerror}; nothing half-written is left") from None

    def flush(self) -> None:
        """Every file is safe as soon as it is put."""
