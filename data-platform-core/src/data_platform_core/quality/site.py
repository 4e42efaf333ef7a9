"""Where Great Expectations writes its pages; loaded by it, by name, as it is heavy to import."""

from __future__ import annotations

from typing import Any

from great_expectations.data_context.store.tuple_store_backend import TupleFilesystemStoreBackend


class KeptPages(TupleFilesystemStoreBackend):
    """A folder of pages of which none is removed: the index of a gate would take away those of all gates before it."""

    def remove_key(self, key: Any) -> None:
        """Leave the page of a key where it is; the index passes it over all the same."""
