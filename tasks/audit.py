"""Look for leaks in what a lake holds: the checks, and the checks of the checks.

A planted feature that peeks must be found by the same code that passes the real ones; an
audit that would not notice a leak says so instead of "all is well".
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from models.audit import Finding, check_alteration, check_plausible, check_shuffled, check_spans, check_truncation, unchecked
from models.examples import Choices, Examples
from models.splits import WalkForward
from tasks.detectors.fold import Detectors
from tasks.features.catalogue import NAMES
from tasks.features.fold import Features
from warehouse.lake import Lake

EVENTS = 20_000  # of a stream that the features are rebuilt from
CUTS = 4
SHUFFLED_TREES = 100  # enough to learn a leak, a third of the time


@dataclass(frozen=True)
class Check:
    """One question that was asked, over how much, and what was found."""

    name: str
    scope: str
    findings: list[Finding]
    unchecked: list[str] = field(default_factory=list)  # features with too few values: neither passed nor failed

    def as_dict(self) -> dict[str, Any]:
        """Return the check as plain data."""
        return {
            "check": self.name,
            "scope": self.scope,
            "findings": [finding._asdict() for finding in self.findings],
            "unchecked": self.unchecked,
        }


@dataclass(frozen=True)
class _Events:
    # The first events of a stream, and where the first n of them end in each table.
    books: np.ndarray
    trades: np.ndarray
    changes: np.ndarray
    order: np.ndarray

    def features(self, n: int) -> np.ndarray:
        last = self.order[n - 1] if n else -1
        parts = (rows[rows["event_seq"] <= last] for rows in (self.books, self.trades, self.changes))
        return _features(*parts)


def _features(*tables: np.ndarray) -> np.ndarray:
    meta, rows = Features().batch(*tables)
    Detectors().batch(meta, rows)
    return rows


def _first_events(lake: Lake, venue: str, symbol: str, n: int) -> _Events:
    tables = [lake.rows(table, venue, symbol) for table in ("l2_snapshots", "trades", "coverage_changes")]
    order = np.sort(np.concatenate([rows["event_seq"] for rows in tables]))[:n]
    last = order[-1] if order.size else -1
    return _Events(*(rows[rows["event_seq"] <= last] for rows in tables), order)


def audit(
    lake: Lake, venue: str, symbol: str, examples: Examples, choices: Choices, told: Callable[[str], None] = lambda _: None
) -> list[Check]:
    """Return every check with what it found.

    A feature without values in what is looked at has neither passed nor failed; the check names it.

    Parameters
    ----------
    examples : Examples
        What training would learn from.
    choices : Choices
        Folds, embargo and trees of that training.
    told : callable
        Told the name of each check as it starts.
    """
    events = _first_events(lake, venue, symbol, EVENTS)
    n = events.order.size
    cuts = [int(n * (k + 1) / (CUTS + 1)) for k in range(CUTS)]
    usable = examples.usable
    spans = np.column_stack([examples.exchange_ns, examples.label_end_ns])[usable]
    done = []

    def ask(name: str, scope: str, findings: list[Finding], without: list[str] | None = None) -> None:
        done.append(Check(name, scope, findings, without or []))

    whole = events.features(n)
    empty = unchecked(whole, NAMES, 1)
    count = len(NAMES) - len(empty)
    told("later events cut off")
    found = check_truncation(lambda m: whole if m == n else events.features(m), n, NAMES, cuts)
    ask("truncation", f"{count} features, {n:,} events, {len(cuts)} cuts", found, empty)
    told("later events altered")
    ask("alteration", f"{count} features, all events after a cut altered", _alteration(events, cuts[-1], whole), empty)
    told("label spans against test spans")
    folds = WalkForward(choices.n_folds, choices.expanding, embargo_ns=choices.embargo_ns).folds(spans)
    ask("spans", f"{len(folds)} folds, {len(spans):,} labels", check_spans(spans, folds, choices.embargo_ns))
    told("single features too good to be true")
    x, direction, returns = examples.x[usable], examples.direction[usable], examples.return_bps[usable]
    few = unchecked(x[direction != 0], examples.names)
    ask("plausibility", f"{x.shape[1] - len(few)} features alone", check_plausible(x, examples.names, direction, returns), few)
    told("shuffled labels")
    fewer = replace(choices, n_trees=min(choices.n_trees, SHUFFLED_TREES))
    ask("shuffled labels", "3 trainings on labels dealt out anew", check_shuffled(examples, fewer))
    told("planted leaks")
    ask("planted leaks", "a peeking feature and a centred mean must be found", _planted(events, n, cuts, direction, returns))
    return done


def _alteration(events: _Events, cut: int, before: np.ndarray) -> list[Finding]:
    first = events.order[cut]
    altered = []
    for rows, fields in ((events.books, ("bid_sz", "ask_sz", "bid_px", "ask_px")), (events.trades, ("size", "price"))):
        changed = rows.copy()
        late = changed["event_seq"] >= first
        for name in fields:
            changed[name][late] *= 1.37
        altered.append(changed)
    after = _features(*altered, events.changes)
    return check_alteration(before, after, NAMES, int((events.books["event_seq"] < first).sum()))


def _planted(events: _Events, n: int, cuts: list[int], direction: np.ndarray, returns: np.ndarray) -> list[Finding]:
    missed = []
    noise = np.random.default_rng(0).normal(size=returns.size) * returns.std() * 0.2
    if not check_plausible((returns + noise)[:, None], ["planted_return"], direction, returns):
        missed.append(Finding("planted leaks", "planted_return", "a feature that holds the future return was not noticed"))

    def centred(m: int) -> np.ndarray:
        mid = events.features(m)[:, [NAMES.index("mid")]]
        later = np.vstack([mid[10:], np.repeat(mid[-1:], min(10, len(mid)), axis=0)])[: len(mid)]
        return (mid + later) / 2.0

    if not check_truncation(centred, n, ["planted_centred_mid"], cuts):
        missed.append(Finding("planted leaks", "planted_centred_mid", "a mean over later books was not noticed"))
    return missed
