"""Replay a capture and say whether everything about it can be believed.

Books are checked against the venue's own ticker, trades by their ids, and the live path
against the batch path: what came through the lake and was built in bulk must equal, bit for
bit, what was computed frame by frame.
"""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models import booster
from models.scorer import Scorer
from tasks.detectors.fold import Detectors
from tasks.features.catalogue import NAMES, SETS, columns
from tasks.features.fold import META, Features
from tasks.replay import CaptureTruncatedError
from tasks.venues import directory
from tasks.venues.events import BOOK, CHANGE, QUOTE, TRADE, UNREADABLE
from tasks.venues.wire import Adapter
from warehouse.lake import Lake

ENOUGH = 0.999  # share of ticker checks that must agree; venues do omit an order from a depth batch now and then
_COMMIT = 20_000


@dataclass
class Verdict:
    """What a capture holds and how well it agrees with itself.

    `quote_checks` compares each book with the last ticker of an id no later than the book's,
    where a later ticker proves that there was none in between.
    """

    venue: str
    symbol: str
    messages: int = 0
    book_updates: int = 0
    gaps: int = 0
    crossed: int = 0
    quote_checks: int = 0
    quote_matches: int = 0
    trades: int = 0
    trade_id_gaps: int = 0
    rows: int = 0
    parity_rows: int = 0
    parity_mismatches: int = 0
    unreadable: int = 0
    feature_mismatches: int = 0
    score_mismatches: int = 0
    scored_with: str = ""
    quote_mismatch_ids: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Return whether nothing was found that a user must look at."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain data, `ok` included."""
        return {**asdict(self), "ok": self.is_good}


@dataclass
class _Live:
    # What the live path said, row by row.
    features: list[np.ndarray] = field(default_factory=list)
    meta: list[np.ndarray] = field(default_factory=list)
    best: list[tuple[float, float, float, float]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    quotes: list[tuple[float, float, float, float]] = field(default_factory=list)
    quote_ids: list[int] = field(default_factory=list)


def verify(
    frames: Iterable[tuple[int, bytes]], venue: str, raw_symbol: str, model: Scorer | None = None, model_name: str = "",
    told: Callable[[int], None] = lambda _: None,
) -> Verdict:  # fmt: skip
    """Return the verdict on a capture's frames.

    Parameters
    ----------
    frames : iterable of (receive_ns, frame)
    model : Scorer, optional
        To compare scores with; without one a small model is fitted on the capture itself.
    told : callable
        Told every few thousand frames how many have been read.
    """
    adapter, live, fold = directory.adapter(venue, raw_symbol), _Live(), (Features(), Detectors())
    verdict = Verdict(venue, adapter.symbol)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        writer = lake.writer()
        writer.session(venue, adapter.symbol, "verify")
        try:
            for n, (receive_ns, frame) in enumerate(frames, 1):
                for event in adapter.receive(frame, receive_ns):
                    _take(event, adapter, fold, live, writer)
                if n % _COMMIT == 0:
                    writer.commit()
                    told(n)
        except CaptureTruncatedError as error:  # what came before it can be judged all the same
            verdict.problems.append(str(error))
        finally:
            writer.close()
            _count(verdict, adapter)
        _check_quotes(verdict, live)
        _check_parity(verdict, live, lake, venue, adapter.symbol, model, model_name)
    _judge(verdict, adapter)
    return verdict


def _take(event: int, adapter: Adapter, fold: tuple[Features, Detectors], live: _Live, writer: Any) -> None:
    venue, symbol = adapter.venue, adapter.symbol
    features, detectors = fold
    if event == BOOK:
        row = adapter.row[0]
        made = features.book(adapter.row)
        detectors.step(made, features.meta)
        live.features.append(made.copy())
        live.meta.append(features.meta.copy())
        live.best.append((row["bid_px"][0], row["bid_sz"][0], row["ask_px"][0], row["ask_sz"][0]))
        live.ids.append(int(row["update_id"]))
        writer.append("l2_snapshots", venue, symbol, adapter.row)
    elif event == QUOTE:
        quote = adapter.quote[0]
        live.quotes.append((quote["px"][0], quote["sz"][0], quote["px"][1], quote["sz"][1]))
        live.quote_ids.append(int(quote["update_id"]))
    elif event == TRADE:
        features.trade(adapter.trade)
        writer.append("trades", venue, symbol, adapter.trade)
    elif event == CHANGE:
        features.change(adapter.change)
        writer.append("coverage_changes", venue, symbol, adapter.change)
    elif event == UNREADABLE:
        writer.append("unreadable", venue, symbol, [adapter.unreadable])


def _count(verdict: Verdict, adapter: Adapter) -> None:
    counts = adapter.counts
    for name in ("messages", "book_updates", "gaps", "crossed", "trades", "trade_id_gaps", "unreadable"):
        setattr(verdict, name, counts[name])


def _check_quotes(verdict: Verdict, live: _Live) -> None:
    if not live.ids or not live.quote_ids:
        return
    ids, quote_ids = np.array(live.ids), np.array(live.quote_ids)
    order = np.argsort(quote_ids, kind="stable")
    quote_ids, quotes = quote_ids[order], np.array(live.quotes)[order]
    at = np.searchsorted(quote_ids, ids, side="right") - 1
    checkable = (at >= 0) & (at < quote_ids.size - 1)
    equal = (quotes[at[checkable]] == np.array(live.best)[checkable]).all(axis=1)
    verdict.quote_checks, verdict.quote_matches = int(checkable.sum()), int(equal.sum())
    verdict.quote_mismatch_ids = [int(i) for i in ids[checkable][~equal][:20]]


def _check_parity(verdict: Verdict, live: _Live, lake: Lake, venue: str, symbol: str, model: Any, model_name: str) -> None:
    books, trades, changes = (lake.rows(table, venue, symbol) for table in ("l2_snapshots", "trades", "coverage_changes"))
    verdict.rows = int(books.size)
    if not live.features:
        return
    meta, batch = Features().batch(books, trades, changes)
    Detectors().batch(meta, batch)
    lived, lived_meta = np.array(live.features), np.concatenate(live.meta)
    verdict.parity_rows = int(books.size)
    same = lived.shape == batch.shape
    wrong = ~((lived == batch) | (np.isnan(lived) & np.isnan(batch))).all(axis=1) if same else np.ones(max(len(lived), len(batch)), bool)
    if same:
        for name in META.names or ():
            wrong |= lived_meta[name] != meta[name]
    verdict.feature_mismatches = int(wrong.sum())
    scorer, verdict.scored_with = (model, model_name) if model is not None else _throw_away(batch, meta)
    if scorer is not None and same:
        at = columns(SETS["l2_core"])
        scores = scorer.batch(batch[:, at])
        one_by_one = np.array([scorer.score(np.ascontiguousarray(row[at])) for row in lived])
        differ = ~(scores == one_by_one).all(axis=1)
        verdict.score_mismatches = int(differ.sum())
        wrong |= differ
    verdict.parity_mismatches = int(wrong.sum())


def _throw_away(batch: np.ndarray, meta: np.ndarray) -> tuple[Scorer | None, str]:
    # Any trees on these columns will do to compare two ways of scoring.
    mid = batch[:, NAMES.index("mid")]
    rows = np.flatnonzero((meta["doubt"] == 0)[:-20])
    up = (mid[rows + 20] > mid[rows]).astype(float)
    if rows.size < 500 or len(np.unique(up)) < 2:
        return None, "nothing: too few rows"
    names = SETS["l2_core"]
    fitted = booster.train(batch[rows][:, columns(names)], up, names, n_trees=50, seed=1)
    return Scorer(booster.text(fitted)), "50 trees fitted on this capture"


def _judge(verdict: Verdict, adapter: Adapter) -> None:
    say = verdict.problems.append
    if verdict.gaps:
        say(f"{verdict.gaps} gaps: depth messages are missing")
    if verdict.crossed:
        say(f"the book was crossed {verdict.crossed} times")
    if verdict.trade_id_gaps:
        say(f"{verdict.trade_id_gaps} gaps in trade ids")
    if verdict.unreadable:
        say(f"{verdict.unreadable} frames could not be read; they are kept in the table `unreadable`")
    if verdict.parity_mismatches:
        say(f"{verdict.parity_mismatches} rows differ between the live and the batch path")
    if verdict.quote_matches < ENOUGH * verdict.quote_checks:
        say(f"only {verdict.quote_matches} of {verdict.quote_checks} best quotes equal the venue's ticker")
    buffered = getattr(adapter, "buffered", 0)  # of venues whose snapshot comes over REST
    if not adapter.is_live and buffered:
        say(f"{buffered} depth events and no snapshot that they continue")
    if not verdict.book_updates:
        say("no book was ever built")
