"""The batch steps as one person runs them by hand: the same verbs that the flows schedule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.learning import choices_of, costs_of, registry_of
from flows.settings import Settings
from tasks.featurize import featurize
from tasks.label import label
from tasks.report import report_version
from warehouse.lake import Lake

Advance = Callable[..., None]
__all__ = ["choices_of", "costs_of", "draw", "refresh", "registry_of"]


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


def draw(lake: Lake, settings: Settings, venue: str, symbol: str, out: Path | None = None) -> Path:
    """Draw the page of a stream's champion, else of its newest version, and return its path."""
    return report_version(lake, registry_of(settings), venue, symbol, out or settings.lake / "report.html", costs=costs_of(settings))
