"""Tell Prefect that something happened, so that what waits for it can start.

Events are lossy (a server restart, a full queue), so whatever an event starts also runs on a
schedule.  Sending takes about a millisecond and waits for nobody.
"""

from prefect.events import emit_event

SEALED = "tidebook.partition.sealed"
QUARANTINED = "tidebook.partition.quarantined"
PROMOTED = "tidebook.model.promoted"


def partition_sealed(venue: str, symbol: str, day: str, rows: int) -> None:
    """Say that one stream has `rows` more rows in Parquet for a UTC day."""
    emit_event(
        event=SEALED,
        resource={"prefect.resource.id": f"tidebook.partition.{venue}.{symbol}.{day}", "prefect.resource.name": f"{venue} {symbol} {day}"},
        payload={"venue": venue, "symbol": symbol, "day": day, "rows": rows},
    )


def partition_quarantined(venue: str, symbol: str, day: str, why: str) -> None:
    """Say that a day of a stream broke rules and is left out of training."""
    emit_event(
        event=QUARANTINED,
        resource={"prefect.resource.id": f"tidebook.partition.{venue}.{symbol}.{day}", "prefect.resource.name": f"{venue} {symbol} {day}"},
        payload={"venue": venue, "symbol": symbol, "day": day, "why": why},
    )


def model_promoted(name: str, version: int, why: str) -> None:
    """Say that a version became champion, and by which rule."""
    emit_event(
        event=PROMOTED,
        resource={"prefect.resource.id": f"tidebook.model.{name}", "prefect.resource.name": f"{name} {version}"},
        payload={"name": name, "version": version, "why": why},
    )
