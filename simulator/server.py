"""Several simulated venues at once, and the command that serves them."""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from simulator.desk import Desk, View
from simulator.faults import FaultPlan
from simulator.fundamental import Course, Fundamental
from simulator.instruments import DEFAULT_SYMBOL, INSTRUMENTS, VENUES
from simulator.ledger import Ledger
from simulator.listings import listing, raw_symbols
from simulator.market import Market
from simulator.venue_server import VenueServer
from simulator.wires import VENUES as SPOKEN
from simulator.wires import UnknownVenueError

say = partial(print, flush=True)  # a pipe is read line by line


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


def build(
    venue: str,
    symbols: Sequence[str],
    seed: int,
    start_ns: int,
    hidden: bool = True,
    fundamentals: dict[str, Fundamental] | None = None,
    busy: float = 1.0,
) -> tuple[dict[str, Desk], dict[str, Course]]:
    """Return a venue's markets, and what they follow where `fundamentals` (by base, filled in as needed) is given."""
    desks, courses = {}, {}
    for symbol in (symbol.upper() for symbol in symbols):
        made = INSTRUMENTS.get((venue, symbol)) if fundamentals is None else None
        made = made or listing(venue, symbol)
        if fundamentals is not None:
            worth = fundamentals.setdefault(made.base, Fundamental(made.base, seed, start_ns))
            courses[symbol] = Course(worth, venue, seed)
            made = replace(made, start_price=courses[symbol].price(start_ns))
        if busy != 1.0:
            made = replace(made, **{name: busy * getattr(made, name) for name in ("touches_s", "levels_s", "trades_s")})
        desks[symbol] = Desk(Market(made, seed, start_ns, hidden))
    return desks, courses


def compile_market() -> None:
    """Compile the kernels of the market: before ports are open, for who waits for a compiler loses clients."""
    desk, view = Desk(Market(INSTRUMENTS["binance_coinm", "BTCUSD_PERP"], 0, 0)), View(5)
    for until_ns in (100_000_000, 200_000_000):
        desk.advance(until_ns)
        view.turn(desk)


async def serve(
    venues: Sequence[str] = VENUES,
    symbols: Mapping[str, Sequence[str]] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 0,
    speed: float = 1.0,
    hidden: bool = True,
    start_ns: int | None = None,
    *,
    coupled: bool = False,
    faults: FaultPlan | Mapping[str, FaultPlan] | None = None,
    ledger: Path | str | None = None,
    busy: float = 1.0,
) -> Simulator:
    """Open a server a venue and let their markets run.

    Parameters
    ----------
    venues : sequence of str
        Names of `wires.VENUES`.
    symbols : mapping of str to sequence of str, optional
        Raw symbols by venue, as `listings.raw_symbols` makes them; the venue's BTC market where none is said.
    host, port : str and int
        The first venue's port, the next ones follow; 0 lets the system choose each.
    seed, hidden : int and bool
        See `simulator.market.Market`.
    speed : float
        Market seconds a wall second; `math.inf` for as fast as clients read.
    start_ns : int, optional
        Exchange time of the opening; the wall clock's by default.
    coupled : bool
        Whether one path of worth an asset draws all venues' markets, each a little later than the first.
    faults : FaultPlan, or one by venue, optional
        What goes wrong.
    ledger : Path or str, optional
        Folder in which to write what was published; see `simulator.ledger`.
    busy : float
        How many times as much happens as in a quiet hour, moves of the price aside.

    Raises
    ------
    UnknownVenueError
    UnknownInstrumentError
    """
    compile_market()
    start_ns = start_ns or time.time_ns()
    fundamentals: dict[str, Fundamental] | None = {} if coupled else None
    servers = {}
    for venue in venues:
        if venue not in SPOKEN:
            raise UnknownVenueError(venue)
        named = (symbols or {}).get(venue) or (DEFAULT_SYMBOL.get(venue) or raw_symbols(venue, 1)[0],)
        desks, courses = build(venue, named, seed, start_ns, hidden, fundamentals, busy)
        plan = faults.get(venue) if isinstance(faults, Mapping) else faults
        servers[venue] = VenueServer(venue, desks, start_ns, speed, plan, Ledger(ledger, venue) if ledger else None, courses)
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
    tell: Callable[[str], None] = say,
    *,
    coupled: bool = False,
    faults: FaultPlan | Mapping[str, FaultPlan] | None = None,
    ledger: Path | str | None = None,
) -> None:
    """Serve until interrupted or terminated, saying once where, and at the end what went wrong; arguments as of `serve`."""

    async def run() -> None:
        stop = asyncio.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        opened = await serve(
            venues, symbols, host, port, seed, speed, hidden, coupled=coupled, faults=faults, ledger=ledger
        )  # fmt: skip
        async with opened as running:
            for venue in venues:
                tell(f"{venue}  {running.ws_url(venue)}  {running.rest_url(venue)}  {' '.join(running.venues[venue].desks)}")
            await stop.wait()
        for venue, server in running.venues.items():
            said = ", ".join(f"{name} {n}" for name, n in sorted(server.dice.counts.items()))
            tell(f"{venue}  {server.sent:,} messages, {server.rest_requests:,} requests, faults: {said or 'none'}")

    asyncio.run(run())
