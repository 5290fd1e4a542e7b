"""The batch steps as one person runs them by hand: the same verbs that the flows schedule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.settings import Settings
from models.errors import NoChampionError
from models.registry import NAME, Registry
from models.summary import Summary
from models.training import Choices
from models.verdict import Costs
from tasks.featurize import featurize
from tasks.label import label
from tasks.report import build_report
from warehouse.lake import Lake

Advance = Callable[..., None]


def choices_of(settings: Settings) -> Choices:
    """Return how this machine trains."""
    return Choices(
        horizon_ns=int(settings.horizon_s * 1e9), n_folds=settings.folds, embargo_ns=int(settings.embargo_s * 1e9),
        n_trees=settings.trees, n_trials=settings.trials, seed=settings.seed, num_threads=2,
    )  # fmt: skip


def registry_of(settings: Settings) -> Registry:
    """Return the registry of this lake."""
    return Registry(settings.tracking_uri, settings.artifacts)


def refresh(lake: Lake, settings: Settings, advance: Advance = lambda *_: None) -> list[dict[str, Any]]:
    """Bring features and labels of every recorded partition up to date."""
    done = []
    partitions = lake.partitions("l2_snapshots")
    for venue, symbol, day in partitions:
        advance(0, f"features and labels of {venue} {symbol} {day}")
        features = featurize(lake, venue, symbol, day)
        labels = label(lake, venue, symbol, day, horizon_s=settings.horizon_s, fee_bps=settings.taker_fee_bps)
        done.append({"venue": venue, "symbol": symbol, "day": day, "features": features, "labels": labels})
        advance(1)
    return done


def costs_of(settings: Settings) -> Costs:
    """Return what a trade costs here."""
    return Costs(settings.taker_fee_bps, settings.maker_fee_bps)


def draw(lake: Lake, settings: Settings, venue: str, symbol: str, out: Path | None = None) -> Path:
    """Draw the page of the newest version trained on a stream, champion or not, and return its path.

    Raises
    ------
    NoChampionError
        If nothing was ever trained on the stream.
    """
    registry = registry_of(settings)
    found = registry.newest({"venue": venue, "symbol": symbol})
    if found is None:
        raise NoChampionError(NAME, f"any version of {venue} {symbol}")
    version, run_id, tags = found
    summary = Summary.from_dict(registry.document(run_id, "summary.json"))
    made = {"model version": version, "champion now": registry.champion_version(), **tags}
    return build_report(lake, venue, symbol, summary, out or settings.lake / "report.html", made, costs_of(settings))
