"""Always: one venue's sockets into the lake."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.recording import recording
from flows.settings import Settings
from tasks.feed.watch import Watch
from tasks.record import Recorder
from warehouse.lake import Lake


@flow
async def ingest(venue: str, symbols: list[str] | None = None, seconds: float | None = None) -> State:
    """Record one venue's books and trades until told to stop.

    Parameters
    ----------
    venue : str
        A name of `tasks.venues.directory`, such as binance_usdm or kraken.
    symbols : list of str, optional
        Such as BTC-USDT-PERP; those of TIDEBOOK_STREAMS if not given.
    seconds : float, optional
        End by itself after this long.
    """

    def recorder_for(lake: Lake, session: str) -> Recorder:
        return Recorder(lake, venue, session, keep_raw=True, watch=Watch())

    return await recording(Settings(), "ingest", venue, symbols, seconds, recorder_for)
