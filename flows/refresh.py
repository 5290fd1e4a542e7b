"""Every quarter of an hour and after seals: validated partitions, features, labels."""

from prefect import flow

from flows.settings import Settings
from tasks import monitor
from tasks.featurize import featurize
from tasks.label import label
from tasks.validate import validate
from warehouse.lake import Lake


@flow
def refresh(venue: str | None = None, symbols: list[str] | None = None, day: str | None = None) -> None:
    """Bring every batch table up to date with the books and trades that were recorded.

    A partition whose inputs have not changed since its last manifest costs one look.
    """
    settings = Settings()
    lake = Lake(settings.lake)
    done = []
    for partition in lake.partitions("l2_snapshots"):
        if not _is_wanted(partition, venue, symbols, day):
            continue
        validate(lake, *partition)
        features = featurize(lake, *partition)
        labels = label(lake, *partition)
        done.append({"partition": " ".join(partition), "features": features["rows"], "labels": labels["rows"]})
        monitor.progress("refresh", 100.0, " ".join(partition))
    monitor.table("refresh", done, "rows by partition")
    monitor.flush()


def _is_wanted(partition: tuple[str, str, str], venue: str | None, symbols: list[str] | None, day: str | None) -> bool:
    return venue in (None, partition[0]) and (symbols is None or partition[1] in symbols) and day in (None, partition[2])
