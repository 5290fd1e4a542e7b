"""Stored features and labels into a registered, judged model.

A version names its data: the lake's table versions (pinned, so that they stay readable), the
catalogue, the commit and the seed.  Training again from them gives the same trees.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task

from models.errors import FeatureSetError
from models.examples import Choices, Examples, Mirror
from models.labels import doubt_over
from models.plots import figures
from models.registry import TRAINED_UNTIL, Registry
from models.result import TrainingResult
from models.summary import Summary, summarize
from models.training import train
from models.verdict import Costs
from tasks.features.catalogue import SETS, VERSION
from tasks.features.mirror import mirror
from warehouse.errors import UnknownStreamError
from warehouse.lake import Lake
from warehouse.quarantine import left_out
from warehouse.schema import OK, START, STATES

_LABELS = ("event_seq", "doubt", "label_end_ns", "barrier_end_ns", "direction", "vol_return", "return_bps")
WARM_NS = 30_000_000_000  # a row counts once its stream was clean for as long as most features look back
FEATURE_SET = "l2_core"
BASELINE = "imbalance_1"  # queue imbalance alone: what a model must beat to be worth anything
TRAINABLE = tuple(name for name, names in SETS.items() if BASELINE in names)  # rows of single updates, the baseline among them


@dataclass(frozen=True)
class Trained:
    """A registered version and everything that was measured on the way."""

    version: int
    run_id: str
    result: TrainingResult
    summary: Summary
    examples: Examples


def examples_of(
    lake: Lake, venue: str, symbol: str, feature_set: str = FEATURE_SET, start_ns: int | None = None, end_ns: int | None = None,
    versions: Mapping[str, int] | None = None,
) -> Examples:  # fmt: skip
    """Return what there is to learn from one stream: features and labels of the same books, in time order.

    Rows that are doubtful, not warm, or whose label touches a doubtful stretch stay in, flagged
    with the cause: training leaves them out and reports how many there were.  So do rows whose
    features or label look at a stretch that turned out suspect, contradicted or quarantined.
    With `versions`, rows are those of these table versions and no later ones.

    All rows are in memory at once, and nothing but the columns of the set is read.  At its highest it takes
    twice `8 * rows * features` bytes, the columns as read and the matrix: 1 GB for a million books.  `start_ns` bounds it.

    Raises
    ------
    UnknownStreamError
        If the stream has no features or no labels.
    FeatureSetError
        If the set is not one of single book updates that holds the baseline.
    """
    if feature_set not in TRAINABLE:
        raise FeatureSetError(feature_set, TRAINABLE)
    for table in ("features", "labels"):
        found = sorted({key[:2] for key in lake.partitions(table)})
        if (venue, symbol) not in found:
            known = ", ".join(" ".join(key) for key in found) or "none"
            raise UnknownStreamError(venue, symbol, f"it has no {table}; streams that have: {known}. `tidebook refresh` makes them")

    def read(table: str, columns: list[str] | None = None) -> Any:
        if versions is None:
            return lake.read(table, venue, symbol, start_ns, end_ns, columns)
        version = versions[table] if versions[table] >= 0 else None
        return lake.read(table, venue, symbol, start_ns, end_ns, columns, version, tail=False)

    names = SETS[feature_set]
    meta = ("exchange_ns", "event_seq", "clean_ns", "doubt")
    features = read("features", [*meta, *names])
    labels = read("labels", list(_LABELS))
    books = read("l2_snapshots", ["event_seq", "bid_px_00", "ask_px_00"])
    table = {name: features[name].to_numpy() for name in meta}
    by_label, by_book = labels["event_seq"].to_numpy(), books["event_seq"].to_numpy()
    shared = np.intersect1d(np.intersect1d(table["event_seq"], by_label), by_book)
    at, label_at, book_at = (np.searchsorted(found, shared) for found in (table["event_seq"], by_label, by_book))
    x = np.empty((shared.size, len(names)))
    for i, name in enumerate(names):
        x[:, i] = features[name].to_numpy()[at]  # one column at a time: all of them at once would be in memory a third time

    def label(name: str) -> np.ndarray:
        return labels[name].to_numpy()[label_at]

    doubt = table["doubt"][at]
    doubt = np.where((doubt == OK) & (table["clean_ns"][at] < WARM_NS), START, doubt)
    doubt = np.where(doubt == OK, label("doubt"), doubt)
    looked_at = table["exchange_ns"][at] - WARM_NS, np.maximum(label("label_end_ns"), label("barrier_end_ns"))
    apart = left_out(lake, venue, symbol) + np.array([0, 0, len(STATES)])  # behind the states: see CAUSES
    return Examples(
        names=names, x=x, exchange_ns=np.maximum.accumulate(table["exchange_ns"][at]), label_end_ns=label("label_end_ns"),
        direction=label("direction"), vol_return=label("vol_return"), return_bps=label("return_bps"),
        bid=books["bid_px_00"].to_numpy()[book_at], ask=books["ask_px_00"].to_numpy()[book_at],
        baseline=x[:, names.index(BASELINE)], doubt=np.where(doubt == OK, doubt_over(*looked_at, apart), doubt),
        anchor=BASELINE, mirror=Mirror(*mirror(names)),
    )  # fmt: skip


def commit_of(root: Path) -> str:
    """Return the commit of the code that runs, with a `+` if files differ from it; empty outside a checkout."""
    try:
        asked = [
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked[0] + ("+" if asked[1] else "")


def train_model(
    lake: Lake, registry: Registry, venue: str, symbol: str, choices: Choices, feature_set: str = FEATURE_SET,
    costs: Costs | None = None, end_ns: int | None = None,
) -> Trained:  # fmt: skip
    """Train on all that a stream holds, or on what was before `end_ns`; judge walk-forward, log it all, register the version.

    Raises
    ------
    UnknownStreamError
        If the stream has no features or no labels.
    TooLittleDataError
        If the stream holds too few usable rows for the folds.
    """
    versions = lake.versions()
    examples = examples_of(lake, venue, symbol, feature_set, end_ns=end_ns, versions=versions)
    result = train(examples, choices)
    summary = summarize(result, examples)
    days = [day for at, name, day in lake.partitions("labels") if (at, name) == (venue, symbol)]
    label = lake.manifest("labels", venue, symbol, days[-1]) or {}
    tags: dict[str, Any] = {
        "venue": venue, "symbol": symbol, "feature_set": feature_set, "catalogue": VERSION, "seed": choices.seed,
        "commit": commit_of(Path(__file__).parent), "horizon_s": choices.horizon_ns / 1e9, "label_price": label.get("price", ""),
        "days": f"{days[0]} to {days[-1]}", TRAINED_UNTIL: int(examples.label_end_ns[examples.usable].max()),
    }  # fmt: skip
    tags |= {f"lake_{table}": version for table, version in versions.items() if version >= 0}
    pictures = {f"plots/{name}.png": figure for name, figure in figures(summary, costs or Costs()).items()}
    choice_params = {name: value for name, value in vars(choices).items() if name != "params"}
    run = registry.log_training(
        result.model, result.names, result.calibration,
        run_name=f"{venue} {symbol} {days[-1]}", params={**result.params, **choice_params}, metrics=result.metrics, tags=tags,
        steps=[fold.metrics for fold in result.folds], figures=pictures,
        documents={"summary.json": summary.as_dict(), "features.json": list(result.names)},
    )  # fmt: skip
    version = registry.register(run, tags)
    lake.pin({table: made for table, made in versions.items() if made >= 0}, f"model-{version}")
    return Trained(version, run.run_id, result, summary, examples)


train_stream = task(train_model, name="train", task_run_name="train {venue} {symbol}")
