"""What leaves a lake so that it goes on fitting its disk: by age, by size, and what nobody knows any more.

Whole days of one stream and table leave the table's newest version; their files stay for readers
until `upkeep.vacuum`, and for good where a pin holds them.  The newest day of each stream and
table always stays: the next session takes its numbers from there.  What says which rows are
doubtful stays as long as a row that it speaks of: without it they would look good.
"""

import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq

from warehouse.columns import DAY_NS, day_name, table_of
from warehouse.delta import DataFile, locked
from warehouse.errors import FilesGoneError
from warehouse.layout import Layout
from warehouse.pins import pinned_files
from warehouse.raw import hours
from warehouse.schema import TABLES
from warehouse.wal import Orphan, commits, segments

RAW = "raw"  # stands beside table names where days are given
_ATTEMPTS = 5
_JUDGES = ("coverage_changes", "findings", "quarantine")  # say what other rows are worth
_OTHERS = tuple(table for table in TABLES if table not in _JUDGES)
_JUDGED = tuple(table for table in _OTHERS if table not in ("unreadable", "stream_minutes", "instruments"))


@dataclass(frozen=True)
class _Day:
    """One day of one stream in one table, or one hour of captures."""

    what: str
    day: str
    size: int
    files: tuple[DataFile, ...] = ()
    folder: Path | None = None

    @property
    def stream(self) -> tuple[str, str]:
        """Return whose day it is."""
        return self.files[0].venue, self.files[0].symbol


def retire(layout: Layout, keep_days: Mapping[str, int], limit_bytes: int = 0) -> dict[str, int]:
    """Take out what is too old, then what is too much unless the limit is 0; return files or folders that left, by table or `raw`."""
    gone = expire(layout, keep_days)
    for what, n in (shrink(layout, limit_bytes) if limit_bytes else {}).items():
        gone[what] = gone.get(what, 0) + n
    return gone


def expire(layout: Layout, keep_days: Mapping[str, int], now_ns: int | None = None) -> dict[str, int]:
    """Take out what is older than so many days and return how many files or folders left, by table or `raw`.

    Parameters
    ----------
    keep_days : mapping of str to int
        Table, or `raw`, to days that stay, today included; what is not named stays for good.  Coverage,
        findings and quarantine stay longer while a row of their stream needs them.

    Raises
    ------
    UnknownTableError
        If a name is neither a table nor `raw`.
    """
    today = (time.time_ns() if now_ns is None else now_ns) // DAY_NS
    old: list[_Day] = []
    for what, days in keep_days.items():
        first = day_name(today - max(days, 1) + 1)
        units = _raw_hours(layout) if what == RAW else _table_days(layout, table_of(what).name)
        old += [unit for unit in units if unit.day < first]
    return _drop(layout, _unneeded(layout, old))


def shrink(layout: Layout, limit_bytes: int, now_ns: int | None = None) -> dict[str, int]:
    """Take out the oldest until the lake is no larger, and return how many files or folders left, by table or `raw`.

    Captures leave first, for nothing else needs them; then sealed days, each of a stream in all
    its tables at once, the oldest first.  What a pin holds would free nothing and stays.
    """
    excess = used(layout) - limit_bytes
    if excess <= 0:
        return {}
    today = day_name((time.time_ns() if now_ns is None else now_ns) // DAY_NS)
    chosen: list[_Day] = []
    for hour in sorted(_raw_hours(layout), key=_age):
        if excess <= 0:
            break
        chosen.append(hour)
        excess -= hour.size
    pinned = {table: pinned_files(layout, table) for table in TABLES}
    days = [unit for table in TABLES for unit in _table_days(layout, table) if unit.day < today]
    free = [unit for unit in days if not any(file.path in pinned[unit.what] for file in unit.files)]
    for _, together in groupby(sorted(free, key=_age), key=lambda unit: (unit.day, unit.stream)):
        if excess <= 0:
            break
        units = list(together)
        chosen += units
        excess -= sum(unit.size for unit in units if unit.what not in _JUDGES)  # those may have to stay
    return _drop(layout, _unneeded(layout, chosen))


def used(layout: Layout) -> int:
    """Return the bytes of a lake without the files that left their tables already and only await `vacuum`."""
    total = 0
    for table in TABLES:
        held = {file.path: file.size for file in layout.log(table).snapshot().files}
        total += sum(held.values())
        folder = layout.table(table)
        total += sum(_size(folder / path) for path in pinned_files(layout, table) - held.keys())
    for entry in os.scandir(layout.root):
        if entry.name != "tables":
            total += _size(Path(entry.path))
    return total


def sweep(layout: Layout) -> int:
    """Remove write-ahead segments that dead writers left although all their rows are sealed; return how many.

    One with rows that are not sealed yet stays until the stream's next writer seals it.
    """
    removed = 0
    for venue, symbol in layout.streams():
        folder = layout.wal(venue, symbol)
        if not segments(folder):
            continue
        with locked(folder / "recover.lock"):  # a writer that begins meanwhile would take what is held here for a live writer's
            for path in segments(folder):
                orphan = Orphan.adopt(path)
                if orphan is None:
                    continue
                try:
                    last = {part.table: part.hi for commit in commits(path) for part in commit}
                    if all(layout.log(table).watermarks()(venue, symbol) >= hi for table, hi in last.items()):
                        orphan.unlink()
                        removed += 1
                finally:
                    orphan.close()
    return removed


def _age(unit: _Day) -> tuple[str, tuple[str, str], str]:
    return unit.day, unit.stream if unit.files else ("", ""), unit.what


def _unneeded(layout: Layout, units: Collection[_Day]) -> list[_Day]:
    # All but what says of rows that stay how far they can be trusted.  Those tables are small; what is
    # held back leaves with the days that need it.
    leaving = {(unit.what, *unit.stream, unit.day) for unit in units if unit.files}
    first: dict[tuple[str, str], str] = {}  # day of which something stays, by stream
    for table in _JUDGED:
        for file in layout.log(table).snapshot().files:
            stream = (file.venue, file.symbol)
            if (table, *stream, file.day) not in leaving:
                first[stream] = min(first.get(stream, file.day), file.day)
    before: dict[tuple[str, str], str] = {}  # the newest day of coverage before it: the state with which it begins
    for file in layout.log("coverage_changes").snapshot().files:
        stream = (file.venue, file.symbol)
        if file.day < first.get(stream, ""):
            before[stream] = max(before.get(stream, ""), file.day)

    def is_needed(unit: _Day) -> bool:
        if unit.what not in _JUDGES or unit.stream not in first:
            return False
        if unit.what == "coverage_changes":
            return unit.day >= before.get(unit.stream, first[unit.stream])
        return max(unit.day, _last_day(layout, unit)) >= first[unit.stream]

    return [unit for unit in units if not is_needed(unit)]


def _last_day(layout: Layout, unit: _Day) -> str:
    # The day on which the last stretch ends that began on this one; this one where a file left meanwhile.
    ends = [0]
    with suppress(FileNotFoundError):
        for file in unit.files:
            ends += pq.read_table(layout.table(unit.what) / file.path, columns=["end_ns"])["end_ns"].to_pylist()
    return day_name(max(ends) // DAY_NS)


def _raw_hours(layout: Layout) -> Iterator[_Day]:
    newest: dict[str, str] = {}
    found = list(hours(layout.root))
    for venue, hour, _ in found:
        newest[venue] = max(newest.get(venue, ""), hour)
    for venue, hour, folder in found:
        if hour != newest[venue]:  # it may be being written
            yield _Day(RAW, hour, _size(folder), folder=folder)


def _table_days(layout: Layout, table: str) -> Iterator[_Day]:
    days: dict[tuple[str, str], dict[str, list[DataFile]]] = {}
    for file in layout.log(table).snapshot().files:
        days.setdefault((file.venue, file.symbol), {}).setdefault(file.day, []).append(file)
    for held in days.values():
        for day in sorted(held)[:-1]:
            yield _Day(table, day, sum(file.size for file in held[day]), tuple(held[day]))


def _drop(layout: Layout, units: Collection[_Day]) -> dict[str, int]:
    gone: dict[str, int] = {}
    for unit in units:
        if unit.folder is not None:
            shutil.rmtree(unit.folder, ignore_errors=True)
            if not any(unit.folder.parent.iterdir()):
                unit.folder.parent.rmdir()
            gone[RAW] = gone.get(RAW, 0) + 1
    for table in (*_OTHERS, *_JUDGES):  # a kill in between leaves doubts without rows, not rows without doubts
        days = {(*unit.stream, unit.day) for unit in units if unit.what == table}
        if n := _drop_days(layout, table, days) if days else 0:
            gone[table] = n
    return gone


def _drop_days(layout: Layout, table: str, days: set[tuple[str, str, str]]) -> int:
    log = layout.log(table)
    for attempt in range(_ATTEMPTS):
        files = [file for file in log.snapshot().files if (file.venue, file.symbol, file.day) in days]
        if not files:
            return 0
        try:
            log.commit([], removed=files)
            return len(files)
        except FilesGoneError:  # merged by another process while we looked
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the loop above returns or raises")


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue  # rotated or removed since it was listed
    return total
