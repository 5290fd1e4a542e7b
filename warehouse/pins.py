"""Versions that must stay readable, because a model was trained on them.

A pin lists every file with size and checksum, so it holds even after the table log has
forgotten the version, and it needs no particular engine to be read.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warehouse.delta import DataFile, Snapshot
from warehouse.errors import VersionGoneError, writing
from warehouse.layout import Layout


def pin(layout: Layout, versions: Mapping[str, int], name: str) -> Path:
    """Keep the given version of each table readable until `unpin(name)`, and return the manifest's path."""
    tables: dict[str, Any] = {}
    for table, version in versions.items():
        snapshot = snapshot_of(layout, table, version)
        tables[table] = {"version": snapshot.version, "files": [_entry(layout, table, file) for file in snapshot.files]}
    path = layout.pin(name)
    layout.save(path, json.dumps({"name": name, "tables": tables}, indent=1).encode())
    return path


def unpin(layout: Layout, name: str) -> None:
    """Let go of a pin; its files stay until the next vacuum."""
    with writing(layout.pin(name)):
        layout.pin(name).unlink(missing_ok=True)


def pins(layout: Layout) -> dict[str, dict[str, int]]:
    """Return the pins: name to table to version."""
    return {path.stem: {table: kept["version"] for table, kept in _load(path).items()} for path in _paths(layout)}


def pinned_files(layout: Layout, table: str) -> set[str]:
    """Return the files of a table, relative to its folder, that some pin holds."""
    return {file["path"] for path in _paths(layout) for file in _load(path).get(table, {"files": []})["files"]}


def snapshot_of(layout: Layout, table: str, version: int | None) -> Snapshot:
    """Return a version of a table, from its log or else from a pin.

    Raises
    ------
    VersionGoneError
        If neither has it.
    """
    try:
        return layout.log(table).snapshot(version)
    except VersionGoneError:
        for path in _paths(layout):
            kept = _load(path).get(table)
            if kept and kept["version"] == version:
                return Snapshot(table, kept["version"], tuple(_file(entry) for entry in kept["files"]))
        raise


def verify(layout: Layout, name: str) -> list[str]:
    """Return the files of a pin, as table/path, that are missing or whose bytes have changed."""
    return [
        f"{table}/{entry['path']}"
        for table, kept in _load(layout.pin(name)).items()
        for entry in kept["files"]
        if not (layout.table(table) / entry["path"]).exists() or _sha256(layout.table(table) / entry["path"]) != entry["sha256"]
    ]


def _paths(layout: Layout) -> list[Path]:
    return sorted((layout.root / "pins").glob("*.json"))


def _load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())["tables"])


def _entry(layout: Layout, table: str, file: DataFile) -> dict[str, Any]:
    return {
        "path": file.path,
        "size": file.size,
        "rows": file.rows,
        "sha256": _sha256(layout.table(table) / file.path),
        "venue": file.venue,
        "symbol": file.symbol,
        "day": file.day,
        "bounds": {column: list(ends) for column, ends in file.bounds.items()},
    }


def _file(entry: dict[str, Any]) -> DataFile:
    bounds = {column: (low, high) for column, (low, high) in entry["bounds"].items()}
    return DataFile(entry["path"], entry["size"], entry["rows"], entry["venue"], entry["symbol"], entry["day"], bounds)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
