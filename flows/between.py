"""Between venues: which instruments are put side by side, and their rows and signals brought up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from flows.alone import alone
from flows.settings import Settings
from tasks.aligned import ALL, base_and_quote
from tasks.consolidate import Aligned, consolidate, days_due
from tasks.normalise import signal_between_venues
from tasks.venues.directory import VENUES
from warehouse.lake import Lake


def assets(settings: Settings) -> dict[str, dict[str, str]]:
    """Return venue and symbol of each base asset that at least two venues trade, the first symbol of a venue."""
    return _assets([(venue, symbol) for venue, symbols in settings.streams.items() for symbol in symbols], settings)


def recorded(lake: Lake, settings: Settings) -> dict[str, dict[str, str]]:
    """Return the same of what a lake holds; where settings name two venues of an asset, what they name."""
    held = sorted({(VENUES.index(venue), venue, symbol) for venue, symbol, _ in lake.partitions("l2_snapshots") if venue in VENUES})
    return _assets([(venue, symbol) for _, venue, symbol in held], settings) | assets(settings)


def _assets(streams: list[tuple[str, str]], settings: Settings) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for venue, symbol in streams:
        base, quote = base_and_quote(symbol)
        if quote in settings.quote_rates and not venue.startswith("ccxt_"):
            found.setdefault(base, {}).setdefault(venue, symbol)
    return {base: venues for base, venues in found.items() if len(venues) > 1}


def align(lake: Lake, settings: Settings, days: int | None = None) -> tuple[dict[str, dict[str, Any]], dict[str, Exception]]:
    """Bring rows and signals between venues up to date; return what was done by base asset and day, and what stopped an asset.

    An asset that fails leaves the others alone.

    Parameters
    ----------
    days : int, optional
        How many of the newest days, and all that other code, other venues or another day before made.  All if not given.
    """
    done: dict[str, dict[str, Any]] = {}
    failed: dict[str, Exception] = {}
    for base, symbols in sorted(recorded(lake, settings).items()):
        aligned = Aligned(base, symbols, settings.quote_rates, {"": settings.taker_fee_bps})
        done[base] = {}
        with _kept(failed, base):
            for day in days_due(lake, aligned, days):
                done[base][day] = consolidate(lake, aligned, day, partial(alone, lake.root, f"normalise-{base}"))
    for base in sorted({symbol for venue, symbol, _ in lake.partitions("consolidated") if venue == ALL}):
        with _kept(failed, base), alone(lake.root, f"normalise-{base}") as first:
            if first:  # else the running flow writes them
                signal_between_venues(lake, base)
    return done, failed


@contextmanager
def _kept(failed: dict[str, Exception], base: str) -> Iterator[None]:
    # The first failure of an asset, for whoever asked to tell.
    try:
        yield
    except Exception as error:
        failed.setdefault(base, error)
