"""Every quarter of an hour and after seals: validated partitions, features, labels."""

import logging
from typing import Any

from prefect import flow, task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from flows.between import align
from flows.learning import labels_of
from flows.settings import Settings
from tasks import monitor, notify
from tasks.aligned import ALL
from tasks.featurize import featurize_partition, waves
from tasks.label import VERSION, label_partition
from tasks.validate import validate_partition
from warehouse.lake import Lake

log = logging.getLogger(__name__)


def runner(settings: Settings) -> Any:
    """Return what runs the streams of a refresh side by side."""
    return (ProcessPoolTaskRunner if settings.refresh_by == "processes" else ThreadPoolTaskRunner)(max_workers=settings.refresh_workers)


def work(
    lake: Lake, settings: Settings, venue: str | None = None, symbols: list[str] | None = None, days: int = 2
) -> list[dict[tuple[str, str], list[str]]]:
    """Return what a refresh looks at, as `tasks.featurize.waves` does: labels of other code, horizon or fee are outdated too."""
    return waves(lake, settings.reference, venue, symbols, days, {"label": VERSION, **labels_of(settings)})


@flow(task_runner=runner(Settings()))
def refresh(venue: str | None = None, symbols: list[str] | None = None, days: int = 2) -> State:
    """Bring features, bars, signals, labels and rows over venues up to date with the books and trades that were recorded.

    Partitions that are up to date cost a look; one that fails leaves the others alone.  Streams
    are worked on side by side, the reference assets' before the others.

    Parameters
    ----------
    venue, symbols : optional
        All that the lake holds if not given.
    days : int
        How many of each stream's newest days, and all that other code, or labels of another horizon or fee, made.
    """
    settings = Settings()
    lake = Lake(settings.lake)
    done: list[dict[str, Any]] = []
    for streams in work(lake, settings, venue, symbols, days):
        asked = [refresh_stream.submit(settings, *stream, held) for stream, held in streams.items()]
        for found in asked:
            done += found.result()
    if venue in (None, ALL):
        done += between_venues(lake, settings, days)
    wrong = sum(row["found"] != "ok" for row in done)
    monitor.table("refresh", done, "rows by partition")
    monitor.flush()
    summary = f"{len(done)} partitions, {wrong} of them invalid"
    return Failed(message=summary) if wrong else Completed(message=summary)


@task(name="between venues")
def between_venues(lake: Lake, settings: Settings, days: int) -> list[dict[str, Any]]:
    """Bring rows and signals between venues up to date; return a row for each day that was looked at and each asset that failed."""
    done, failed = align(lake, settings, days)
    for base, error in failed.items():
        log.error("%s between venues", base, exc_info=error)
    rows = [
        {"partition": f"{ALL} {base} {day}", "consolidated": made["rows"], "found": "ok"}
        for base, made_of in done.items()
        for day, made in made_of.items()
        if made["rows"]
    ]
    return rows + [{"partition": f"{ALL} {base}", "found": f"{type(error).__name__}: {error}"} for base, error in failed.items()]


@task(name="refresh", task_run_name="refresh {venue} {symbol}")
def refresh_stream(settings: Settings, venue: str, symbol: str, days: list[str]) -> list[dict[str, Any]]:
    """Bring days of one stream up to date, the oldest first; return a row for each."""
    lake, done = Lake(settings.lake), []
    for partition in ((venue, symbol, day) for day in days):
        checked = validate_partition(lake, *partition, return_state=True)
        if checked.is_failed():
            notify.partition_quarantined(*partition, str(checked.message))
            done.append({"partition": " ".join(partition), "found": checked.message})
            continue
        features = featurize_partition(lake, *partition, reference=settings.reference)
        labels = label_partition(lake, *partition, **labels_of(settings))
        rows = {"features": features["rows"], "bars": features.get("bar_rows", 0), "labels": labels["rows"]}
        done.append({"partition": " ".join(partition), **rows, "found": "ok"})
    return done
