"""Each hour: what venues serve over REST, candles, funding and open interest, brought up to date."""

import time

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.settings import LOOPBACK, Settings
from tasks import monitor
from tasks.fetch import fetch_history
from tasks.history import KINDS, FetchError
from warehouse.lake import Lake

_DAY_MS = 86_400_000


def rest_url(settings: Settings, venue: str) -> str:
    """Return the REST address of a venue: a simulator's where the settings say so, else "" for its own."""
    if not settings.simulator_port:
        return ""
    return f"http://{LOOPBACK}:{settings.simulator_port + list(settings.streams).index(venue)}"


@flow
def backfill(venue: str | None = None, symbols: list[str] | None = None, days: float = 2.0, timeframe: str = "1m") -> State:
    """Store the candles, funding rates and open interest that the lake does not have yet.

    What a venue does not serve is told and left out; a failure leaves the others alone, and the
    next run asks again for what is missing.

    Parameters
    ----------
    venue, symbols : optional
        Those of TIDEBOOK_STREAMS if not given.
    days : float
        How far back.
    timeframe : str
        Of candles; open interest comes in steps of at least five minutes.
    """
    settings = Settings()
    lake, since_ms = Lake(settings.lake), int((time.time() - days * 86_400) * 1000) // _DAY_MS * _DAY_MS
    done, wrong = [], 0
    for name in [venue] if venue else list(settings.streams):
        for symbol in symbols or settings.streams[name]:
            for kind in KINDS:
                row = {"venue": name, "symbol": symbol, "what": kind}
                steps = timeframe if kind != "open-interest" else "5m"
                state = fetch_history(lake, name, symbol, kind, steps, since_ms, rest_url(settings, name), return_state=True)
                if not state.is_failed():
                    fetched = state.result()
                    done.append(row | {"rows": fetched.rows, "pages": fetched.pages, "found": "ok"})
                    continue
                error = state.result(raise_on_failure=False)
                wrong += not isinstance(error, FetchError)
                done.append(row | {"rows": 0, "pages": 0, "found": str(error)})
    monitor.table("backfill", done, "rows by what was asked for")
    monitor.flush()
    summary = f"{sum(row['rows'] for row in done):,} rows, {wrong} failures"
    return Failed(message=summary) if wrong else Completed(message=summary)
