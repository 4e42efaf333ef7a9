"""A table of the lake, as programs outside Spark read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable

from data_platform_core.s3 import s3_options
from data_platform_core.settings import Settings

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset


class LakeTable(DeltaTable):
    """A table of the lake whose files Arrow reads by itself.

    By Python's hands, as is delta-rs' default, one of Arrow's threads may want the interpreter while that ends, and
    aborts the process when all its work is done (apache/arrow issue 45214).
    """

    def __init__(self, settings: Settings, address: str) -> None:
        super().__init__(address, storage_options=s3_options(settings))
        self._settings, self._folder = settings, address.removeprefix("s3://")

    def to_pyarrow_dataset(self, *arguments: Any, **words: Any) -> Dataset:
        """The files of this version as a dataset of Arrow's."""
        from pyarrow.fs import SubTreeFileSystem

        from data_platform_core.s3_files import s3_file_system

        files = SubTreeFileSystem(self._folder, s3_file_system(self._settings))
        return super().to_pyarrow_dataset(*arguments, **(words | {"filesystem": files}))
