"""Who imports whom, read from the sources: for the structure tests, and for the tests that a change concerns."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from home_server.places import ROOT, SOURCES

PACKAGES = {init.parent.name: init.parents[1] for source in SOURCES for init in Path(source).glob("*/__init__.py")}
"""Our packages, and the folder each is in."""


def modules_imported_by(file: Path) -> Iterator[str]:
    """The modules that a file imports, by their full names, those within functions included."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)  # which may be modules, too


def files_imported_by(files: Iterable[Path]) -> set[Path]:
    """Every file of our packages and of `tests` that these import, and those in turn, themselves included."""
    found: set[Path] = set()
    left = list(files)
    while left:
        file = left.pop()
        if file not in found:
            found.add(file)
            left += _imported_by(file)
    return found


@cache
def _imported_by(file: Path) -> tuple[Path, ...]:
    return tuple(path for module in modules_imported_by(file) for path in _files_of(module, file.parent))


def _files_of(module: str, beside: Path) -> Iterator[Path]:
    """The file of a module, and those of the packages around it, which are imported with it."""
    first, *rest = module.split(".")
    if first in PACKAGES:
        folder = PACKAGES[first]
        for name in (first, *rest):
            yield from (path for path in (folder / f"{name}.py", folder / name / "__init__.py") if path.exists())
            folder /= name
    elif not rest:  # a helper beside a test, or in a folder above it
        folders = [folder for folder in (beside, *beside.parents) if folder.is_relative_to(ROOT)]
        yield from (path for path in (folder / f"{first}.py" for folder in folders) if path.exists())
