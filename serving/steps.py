"""The batch steps as one person runs them by hand: the same verbs that the flows schedule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.learning import choices_of, costs_of, registry_of
from flows.settings import Settings
from models.errors import NoChampionError
from models.registry import NAME
from models.summary import Summary
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
