"""Always, beside `ingest`: every book scored by the champion, a moment after it came."""

import time

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State

from flows.recording import recording
from flows.settings import Settings
from tasks.past import warm_from
from tasks.record import Recorder
from tasks.score import Champion
from warehouse.lake import Lake


@flow
async def live(venue: str, symbols: list[str] | None = None, seconds: float | None = None) -> State:
    """Score one venue's books until told to stop; a new champion takes over between two books.

    Parameters
    ----------
    venue : str
        A name of `tasks.venues.directory`, such as binance_usdm or kraken.
    symbols : list of str, optional
        Such as BTC-USDT-PERP; those of TIDEBOOK_STREAMS if not given.
    seconds : float, optional
        End by itself after this long.
    """
    settings, log = Settings(), get_run_logger()

    def changed(version: int) -> None:
        log.info("version %d scores from now on", version)

    with Champion(settings.tracking_uri, settings.artifacts, changed) as champion:

        def recorder_for(lake: Lake, session: str) -> Recorder:
            return Recorder(lake, venue, session, champion.current, clock=time.time_ns, tables=(), warm=warm_from(lake, venue))

        return await recording(settings, "live", venue, symbols, seconds, recorder_for)
