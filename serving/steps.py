"""The batch steps as one person runs them by hand: the same verbs that the flows schedule."""

import logging
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from flows.between import align
from flows.learning import choices_of, costs_of, labels_of, registry_of
from flows.settings import Settings
from models.day import day_picture
from tasks.features.catalogue import NAMES, VERSION
from tasks.featurize import feature_matrix, featurize, waves
from tasks.label import intervals_of, label
from tasks.report import report_version
from warehouse.columns import DAY_NS, day_begins
from warehouse.errors import UnknownStreamError
from warehouse.lake import Lake
from warehouse.schema import OK

log = logging.getLogger(__name__)
Advance = Callable[..., None]
__all__ = ["choices_of", "costs_of", "draw", "draw_day", "refresh", "registry_of"]


def refresh(lake: Lake, settings: Settings, advance: Advance = lambda *_: None, workers: int | None = None) -> list[dict[str, Any]]:
    """Bring features, bars, signals, labels and rows over venues up to date with all that was recorded, several streams side by side.

    What stops the rows over venues of one base asset is raised when those of all others are made.
    """
    done: list[dict[str, Any]] = []
    with side_by_side(settings.refresh_by, workers or settings.refresh_workers) as pool:
        try:
            for streams in waves(lake, settings.reference):
                asked = [pool.submit(refresh_stream, settings, *stream, days) for stream, days in streams.items()]
                for found in as_completed(asked):
                    done += found.result()
                    advance(len(found.result()), "features, bars and labels of {venue} {symbol}".format(**found.result()[-1]))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _, failed = align(lake, settings)
    for base, error in list(failed.items())[1:]:
        log.error("%s between venues: %s: %s", base, type(error).__name__, error)
    for error in failed.values():
        raise error
    return sorted(done, key=lambda row: (row["venue"], row["symbol"], row["day"]))


def side_by_side(by: str, workers: int) -> Executor:
    """Return a pool of `threads` or `processes`."""
    if by != "processes":
        return ThreadPoolExecutor(workers)
    # Fresh processes: a fork has the locks of DuckDB's and the table log's threads without the threads, and hangs.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def refresh_stream(settings: Settings, venue: str, symbol: str, days: list[str]) -> list[dict[str, Any]]:
    """Bring days of one stream up to date, the oldest first; return a row for each."""
    lake, done = Lake(settings.lake), []
    for day in days:
        features = featurize(lake, venue, symbol, day, settings.reference)
        labels = label(lake, venue, symbol, day, **labels_of(settings))
        done.append({"venue": venue, "symbol": symbol, "day": day, "features": features, "labels": labels})
    return done


def draw(lake: Lake, settings: Settings, venue: str, symbol: str, out: Path | None = None) -> Path:
    """Draw the page of a stream's champion, else of its newest version, and return its path."""
    return report_version(lake, registry_of(settings), venue, symbol, out or settings.lake / "report.html", costs=costs_of(settings))


def draw_day(lake: Lake, venue: str, symbol: str, day: str = "", out: Path | None = None) -> Path:
    """Draw a day of a stream, the newest if none is named: price with its signals, features below; return the path.

    Raises
    ------
    UnknownStreamError
        No features of that day, or of other code: run `tidebook refresh`.
    """
    days = [found for *stream, found in lake.partitions("features") if stream == [venue, symbol] and day in ("", found)]
    if not days:
        raise UnknownStreamError(venue, symbol, f"it has no features{' of ' + day if day else ''}; `tidebook refresh` makes them")
    made = (lake.manifest("features", venue, symbol, days[-1]) or {}).get("catalogue")
    if made != VERSION:
        raise UnknownStreamError(
            venue, symbol, f"its features of {days[-1]} are of catalogue {made}, not {VERSION}; run `tidebook refresh`"
        )
    start = day_begins(days[-1])
    span = (start, start + DAY_NS)
    meta, matrix = feature_matrix(lake, venue, symbol, *span)
    signals = lake.rows("signals", venue, symbol, *span)
    known = intervals_of(lake, venue, symbol)
    figure = day_picture(meta["exchange_ns"], dict(zip(NAMES, matrix.T, strict=True)), signals, known[known[:, 2] != OK, :2])
    figure.suptitle(f"{venue}  {symbol}  {days[-1]}", x=0.01, ha="left", weight="bold")
    path = out or lake.root / f"features-{venue}-{symbol}-{days[-1]}.png"
    figure.savefig(path, dpi=110)
    return path
