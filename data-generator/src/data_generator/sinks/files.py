"""Files: one a unit of work, as NDJSON, CSV or Parquet, in a folder or an S3 bucket; there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pyarrow.fs
import pyarrow.parquet

from data_generator.encode import write_ndjson
from data_generator.faults.plan import Late, Plan
from data_generator.messages import Delayed, Messages
from data_generator.sinks import Format
from data_platform_core.contracts import CONTRACTS, GENERATED
from data_platform_core.derive.arrow import arrow_schema
from data_platform_core.derive.fields import fields_of
from data_platform_core.errors import CrmError, UsageError
from data_platform_core.files import whole_file
from data_platform_core.layers import window_name
from data_platform_core.ledger.made import Unit
from data_platform_core.s3_files import s3_file_system
from data_platform_core.settings import Settings


@dataclass(frozen=True)
class FileSink:
    """Writes `<root>/<entity>/<start>--<end>.<format>`; a file of the same unit is replaced."""

    files: pyarrow.fs.FileSystem
    root: str
    format: Format = "ndjson"

    @property
    def prepare(self) -> Callable[[Unit, pl.DataFrame], Any]:
        """The whole work: files are written where their records are made."""
        return self._write

    @property
    def prepare_messages(self) -> Callable[[Unit, Messages], Any]:
        """The whole work, where lines of text can hold what no record can."""
        return self._write_lines

    def check_faults(self, plan: Plan) -> None:
        """Lines of text hold what records cannot, but files have no order of arrival."""
        if self.format != "ndjson":
            raise UsageError(f"--faults cannot be put into {self.format} files: write --format ndjson, or to Kafka")
        if any(isinstance(fault, Late) for fault in plan.faults):
            raise UsageError("--faults: late records need an order of arrival, which files lack: send them to Kafka")

    def put(self, unit: Unit, prepared: Any) -> None:
        """Nothing is left to do: the file was written where its records were made."""

    def put_delayed(self, entity: str, message: Delayed) -> None:
        """Files have no order of arrival; `check_faults` has refused."""
        raise AssertionError(message)

    def flush(self) -> None:
        """Every file is safe as soon as it is written."""

    def _write(self, unit: Unit, records: pl.DataFrame) -> None:
        self._write_file(unit, lambda file: self._write_to(file, unit.entity, records))

    def _write_lines(self, unit: Unit, messages: Messages) -> Messages:
        self._write_file(unit, lambda file: file.write(b"".join(value + b"\n" for value in messages.values)))
        return Messages([], [], [], messages.faults)

    def _write_file(self, unit: Unit, write: Callable[[Any], Any]) -> None:
        target = f"{self.root}/{unit.entity}/{file_name(unit)}.{self.format}"
        try:
            with self._opened(target) as file:
                write(file)
        except OSError as error:
            raise CrmError(f"{target} could not be written: {error}; nothing half-written is left") from None

    def _opened(self, target: str) -> AbstractContextManager[Any]:
        """A file to write, on disk before the ledger says sent; an object of S3 is there once it is whole."""
        if not isinstance(self.files, pyarrow.fs.LocalFileSystem):
            return self.files.open_output_stream(target)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        return whole_file(Path(target))

    def _write_to(self, file: Any, entity: str, records: pl.DataFrame) -> None:
        if self.format == "ndjson":
            write_ndjson(entity, records, file)
        elif self.format == "parquet":
            # by Arrow and not by Polars, whose file would be another one with another number of threads
            pyarrow.parquet.write_table(
                records.to_arrow().cast(arrow_schema(CONTRACTS[entity])), file, compression="zstd"
            )
        else:
            file.write(records.with_columns(_flat(entity)).write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ").encode())


def _flat(entity: str) -> list[pl.Expr]:
    """Lists as JSON text, which is all that CSV can hold."""
    lists = [field.name for field in fields_of(CONTRACTS[entity]) if field.kind == "parts"]
    items = {name: pl.col(name).list.eval(pl.element().struct.json_encode()).list.join(",") for name in lists}
    return [pl.concat_str(pl.lit("["), text, pl.lit("]")).alias(name) for name, text in items.items()]


def file_name(unit: Unit) -> str:
    """The window of a unit as a name of a file."""
    return window_name(*(datetime.fromtimestamp(at / 1_000_000, UTC) for at in (unit.start, unit.end)))


def file_sink(settings: Settings, out: str, format_: Format) -> FileSink:
    """The sink of a folder, or of `s3://bucket/prefix` in the S3 store of the settings.

    Raises:
        UsageError: the address is of another kind, or the folder is a file.
    """
    if out.startswith("s3://"):
        files = s3_file_system(settings)
        root = out.removeprefix("s3://").rstrip("/")
        bucket = root.split("/")[0]
        try:
            found = files.get_file_info(bucket)
        except OSError as error:
            raise CrmError(f"no S3 store answers at {settings.s3_url}: {str(error).splitlines()[0]}") from None
        if found.type == pyarrow.fs.FileType.NotFound:
            raise CrmError(f"the S3 store at {settings.s3_url} has no bucket {bucket}: make it, or name another")
        return _of_one_format(FileSink(files, root, format_), out)
    if "://" in out:
        raise UsageError(f"--out {out} is neither a folder nor s3://bucket/prefix")
    if Path(out).is_file():
        raise UsageError(f"--out {out} is a file: name a folder")
    return _of_one_format(FileSink(pyarrow.fs.LocalFileSystem(), str(Path(out)), format_), out)


def _of_one_format(sink: FileSink, out: str) -> FileSink:
    for entity in GENERATED:
        chosen = pyarrow.fs.FileSelector(f"{sink.root}/{entity}", allow_not_found=True)
        try:
            files = sink.files.get_file_info(chosen)
        except OSError as error:
            raise CrmError(f"--out {out} could not be read: {error}") from None
        for file in files:
            if file.extension in get_args(Format) and file.extension != sink.format:
                raise UsageError(
                    f"--out {out} holds {file.extension} files, and what was made is not made again in another format: "
                    f"say --format {file.extension}, or name another folder"
                )
    return sink
