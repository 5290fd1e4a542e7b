"""Always: one venue's socket into the lake."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.alone import alone
from flows.settings import Settings
from flows.standing import until_told
from tasks.record import record
from warehouse.lake import Lake


@flow
async def ingest(venue: str, symbols: list[str] | None = None, seconds: float | None = None) -> State:
    """Record one venue's books and trades until told to stop."""
    settings = Settings()
    symbols = symbols or list(settings.streams[venue])
    with alone(settings.lake, f"ingest-{venue}") as first:
        if not first:
            return Completed(name="AlreadyRunning", message=f"another run records {venue}")
        async with until_told(seconds) as told:
            counts = await record(Lake(settings.lake), venue, symbols, told.stop)
        return told.state(f"{venue}: {counts}")
