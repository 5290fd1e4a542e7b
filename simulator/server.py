"""Several simulated venues at once, and the command that serves them."""

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence

from simulator.instruments import DEFAULT_SYMBOL, VENUES
from simulator.venue_server import VenueServer


class Simulator:
    """Running servers by venue; close it, or use it as an `async with` block."""

    def __init__(self, venues: Mapping[str, VenueServer]):
        self.venues = dict(venues)

    def ws_url(self, venue: str) -> str:
        """Return the WebSocket address of a venue, without route or path."""
        return f"ws://{self.venues[venue].host}:{self.venues[venue].port}"

    def rest_url(self, venue: str) -> str:
        """Return the REST address of a venue, without path."""
        return f"http://{self.venues[venue].host}:{self.venues[venue].port}"

    async def close(self) -> None:
        """Stop all markets and close all connections."""
        await asyncio.gather(*(server.close() for server in self.venues.values()))

    async def __aenter__(self) -> "Simulator":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


async def serve(
    venues: Sequence[str] = VENUES,
    symbols: Mapping[str, Sequence[str]] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 0,
    speed: float = 1.0,
    hidden: bool = True,
    start_ns: int | None = None,
) -> Simulator:
    """Open a server a venue and let their markets run.

    Parameters
    ----------
    venues : sequence of str
        Names of `instruments.VENUES`.
    symbols : mapping of str to sequence of str, optional
        Raw symbols by venue; the venue's BTC market where none is said.
    host, port : str and int
        The first venue's port, the next ones follow; 0 lets the system choose each.
    seed, hidden : int and bool
        See `simulator.market.Market`.
    speed : float
        Market seconds a wall second; `math.inf` for as fast as clients read.
    start_ns : int, optional
        Exchange time of the opening; the wall clock's by default.
    """
    servers = {}
    for venue in venues:
        markets = (symbols or {}).get(venue) or (DEFAULT_SYMBOL[venue],)
        servers[venue] = VenueServer(venue, markets, seed, speed, hidden, start_ns)
    running = Simulator(servers)
    try:
        for i, server in enumerate(servers.values()):
            await server.start(host, port + i if port else 0)
    except OSError:
        await running.close()
        raise
    return running


def main(
    venues: Sequence[str] = VENUES,
    symbols: Mapping[str, Sequence[str]] | None = None,
    host: str = "127.0.0.1",
    port: int = 9001,
    seed: int = 0,
    speed: float = 1.0,
    hidden: bool = True,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve until interrupted or terminated, saying once where; arguments as of `serve`."""

    async def run() -> None:
        stop = asyncio.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        async with await serve(venues, symbols, host, port, seed, speed, hidden) as running:
            for venue in venues:
                tell(f"{venue}  {running.ws_url(venue)}  {running.rest_url(venue)}")
            await stop.wait()

    asyncio.run(run())
