"""Every quarter of an hour and after seals: validated partitions, features, labels."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.settings import Settings
from tasks import monitor, notify
from tasks.featurize import featurize_partition
from tasks.label import label_partition
from tasks.validate import validate_partition
from warehouse.lake import Lake


@flow
def refresh(venue: str | None = None, symbols: list[str] | None = None, days: int = 2) -> State:
    """Bring features and labels up to date with the books and trades that were recorded.

    Partitions that are up to date cost a look; one that fails leaves the others alone.

    Parameters
    ----------
    venue, symbols : optional
        All that the lake holds if not given.
    days : int
        How many of each stream's newest days; the others have long been finished.
    """
    settings = Settings()
    lake = Lake(settings.lake)
    done, wrong = [], 0
    for partition in _newest(lake, venue, symbols, days):
        checked = validate_partition(lake, *partition, return_state=True)
        if checked.is_failed():
            wrong += 1
            notify.partition_quarantined(*partition, str(checked.message))
            done.append({"partition": " ".join(partition), "found": checked.message})
            continue
        features = featurize_partition(lake, *partition)
        labels = label_partition(lake, *partition, horizon_s=settings.horizon_s, fee_bps=settings.taker_fee_bps)
        done.append({"partition": " ".join(partition), "features": features["rows"], "labels": labels["rows"], "found": "ok"})
    monitor.table("refresh", done, "rows by partition")
    monitor.flush()
    summary = f"{len(done)} partitions, {wrong} of them invalid"
    return Failed(message=summary) if wrong else Completed(message=summary)


def _newest(lake: Lake, venue: str | None, symbols: list[str] | None, days: int) -> list[tuple[str, str, str]]:
    wanted: dict[tuple[str, str], list[str]] = {}
    for found, symbol, day in lake.partitions("l2_snapshots"):
        if venue in (None, found) and (symbols is None or symbol in symbols):
            wanted.setdefault((found, symbol), []).append(day)
    return [(*stream, day) for stream, held in wanted.items() for day in sorted(held)[-days:]]
