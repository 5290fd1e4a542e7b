"""Live frames off the venues' sockets, with the REST snapshots their books need.

Yields what `tasks/replay.py` yields off a capture.  Where the venue is, is configuration:
the real one by default, a simulator on loopback just as well.
"""

import asyncio
import logging
import random
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import islice, product
from urllib.error import HTTPError

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidURI, WebSocketException

logger = logging.getLogger(__name__)

Item = tuple[str, int, bytes]
Waiting = asyncio.Queue[Item | Exception | None]  # None: nothing more will come


@dataclass(frozen=True)
class Endpoints:
    """Where a venue listens: scheme, host and port, without route or path."""

    ws_url: str
    rest_url: str


ENDPOINTS = {
    "binance_spot": Endpoints("wss://stream.binance.com:9443", "https://api.binance.com"),
    "binance_usdm": Endpoints("wss://fstream.binance.com", "https://fapi.binance.com"),
    "binance_coinm": Endpoints("wss://dstream.binance.com", "https://dapi.binance.com"),
}
DEPTH_STREAM = {"binance_spot": "depth@100ms", "binance_usdm": "depth@0ms", "binance_coinm": "depth@0ms"}
FEEDS = ("depth", "trade", "bookTicker")
# As deep as the venue serves: what a snapshot leaves out stays unknown until it changes.
SNAPSHOT_PATH = {
    "binance_spot": "/api/v3/depth?symbol={}&limit=5000",
    "binance_usdm": "/fapi/v1/depth?symbol={}&limit=1000",
    "binance_coinm": "/dapi/v1/depth?symbol={}&limit=1000",
}
_PER_CONNECTION = 200  # streams; the venue allows 1024 and is said to misbehave above 200


@dataclass(frozen=True)
class Patience:
    """How long to wait for what.

    Attributes
    ----------
    first_retry_s, last_retry_s : float
        Reconnection waits double from one to the other, each cut at random by up to a half.
    silence_s : float
        A connection without any frame for so long is taken for dead.
    snapshot_s : float
        Least time between two snapshot requests for one symbol.
    timeout_s : float
        For opening a connection and for a REST answer.
    queue : int
        Frames read but not yet taken; when so many wait, reading stops until some are taken.
    """

    first_retry_s: float = 1.0
    last_retry_s: float = 60.0
    silence_s: float = 30.0
    snapshot_s: float = 2.0
    timeout_s: float = 10.0
    queue: int = 2_000


class SnapshotRefusedError(Exception):
    """The venue will never serve this snapshot: the request itself is wrong."""

    def __init__(self, url: str, status: int):
        self.url, self.status = url, status
        super().__init__(f"{url} answered {status}: no such snapshot")


@dataclass
class _Line:
    # One connection and what came over it.
    url: str
    symbol_of: dict[bytes, str]
    is_open: bool = False
    heard_ns: int = 0
    is_blocked: bool = False
    silent: set[bytes] = field(default_factory=set)

    @property
    def symbols(self) -> list[str]:
        return list(dict.fromkeys(self.symbol_of.values()))


def _lines(venue: str, raw_symbols: Iterable[str], ws_url: str, feeds: Sequence[str]) -> list[_Line]:
    by_route: dict[str, dict[bytes, str]] = {}
    for symbol, feed in product(raw_symbols, feeds):
        route = ""
        if venue == "binance_usdm":  # on the wrong route a stream is acknowledged and never comes (2026-04-23)
            route = "/public" if feed in ("depth", "bookTicker", "trade") else "/market"
        name = f"{symbol.lower()}@{DEPTH_STREAM[venue] if feed == 'depth' else feed}"
        by_route.setdefault(route, {})[name.encode()] = symbol
    lines = []
    for route, owners in by_route.items():
        for first in range(0, len(owners), _PER_CONNECTION):
            part = dict(islice(owners.items(), first, first + _PER_CONNECTION))
            lines.append(_Line(f"{ws_url}{route}/stream?streams={b'/'.join(part).decode()}", part))
    return lines


async def stream(
    venue: str,
    raw_symbols: Sequence[str],
    endpoints: Endpoints,
    wants_snapshot: Callable[[], Iterable[str]],
    stop: asyncio.Event,
    *,
    feeds: Sequence[str] = FEEDS,
    patience: Patience | None = None,
) -> AsyncIterator[Item]:
    """Yield frames as they arrive, reconnecting for ever, until `stop` is set.

    Parameters
    ----------
    venue : str
        A key of `ENDPOINTS`.
    raw_symbols : sequence of str
        As the venue writes them, upper case.
    endpoints : Endpoints
        `ENDPOINTS[venue]`, or a simulator's.
    wants_snapshot : callable
        Returns the raw symbols whose book needs a snapshot now; asked often.
    stop : asyncio.Event
        Set it to end: sockets close, frames already read are still handed over.
    feeds : sequence of str
        Of depth, trade, bookTicker, aggTrade.
    patience : Patience, optional
        Waits and limits.

    Yields
    ------
    raw_symbol : str
        Whose frame it is; the first symbol's where the frame does not say.
    receive_ns : int
        Wall clock just after the frame was read; it never decreases.
    frame : bytes
        As received.  A REST snapshot is its body.  Empty: the connection was lost, and with it
        whatever the venue sent until the next frame.

    Raises
    ------
    SnapshotRefusedError
        A snapshot request that can never succeed, such as one for an unknown symbol.
    """
    patience = patience or Patience()
    queue: Waiting = asyncio.Queue(patience.queue)
    lines = _lines(venue, raw_symbols, endpoints.ws_url, feeds)
    depth_names = {symbol: f"{symbol.lower()}@{DEPTH_STREAM[venue]}".encode() for symbol in raw_symbols}
    url = endpoints.rest_url + SNAPSHOT_PATH[venue]
    tasks = [asyncio.create_task(_guard(queue, _listen, line, queue, patience)) for line in lines]
    tasks.append(asyncio.create_task(_guard(queue, _fetch_snapshots, url, lines, depth_names, wants_snapshot, queue, patience)))

    async def end() -> None:
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await queue.put(None)

    ending = asyncio.create_task(end())
    taken, last_ns = 0, 0
    try:
        while True:
            taken += 1
            if taken % 64 == 0:  # a consumer that never waits must not keep the sockets from being read
                await asyncio.sleep(0)
            item = await queue.get() if queue.empty() else queue.get_nowait()
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            symbol, receive_ns, frame = item
            last_ns = max(last_ns, receive_ns)  # the wall clock may be set back
            yield symbol, last_ns, frame
    finally:
        ending.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(ending, *tasks, return_exceptions=True)


async def _guard(queue: Waiting, job: Callable[..., Awaitable[None]], *given: object) -> None:
    # What a background job cannot cure reaches whoever reads the frames.
    try:
        await job(*given)
    except Exception as error:
        await queue.put(error)


async def _listen(line: _Line, queue: Waiting, patience: Patience) -> None:
    failures = 0
    while True:
        began = time.monotonic()
        try:
            # No pings of ours: the venue pings, counts ours as messages, and a full queue would fail them.
            async with connect(
                line.url, compression=None, max_size=1 << 26, max_queue=(1024, 256), ping_interval=None, open_timeout=patience.timeout_s,
                close_timeout=1, proxy=True if line.url.startswith("wss") else None,
            ) as socket:  # fmt: skip
                line.is_open, line.heard_ns, line.silent = True, time.time_ns(), set(line.symbol_of)
                watch = asyncio.create_task(_watch(line, socket, patience.silence_s))
                try:
                    await _read(line, socket, queue)
                finally:
                    watch.cancel()
        except InvalidURI:
            raise
        except (OSError, WebSocketException, TimeoutError) as error:
            logger.warning("connection lost: %s: %s", line.url, error or type(error).__name__)
        if line.is_open:
            line.is_open = False
            for symbol in line.symbols:
                await queue.put((symbol, time.time_ns(), b""))
        failures = 0 if time.monotonic() - began > patience.silence_s else failures + 1
        wait_s = min(patience.last_retry_s, patience.first_retry_s * 2.0 ** max(0, failures - 1))
        await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))


async def _read(line: _Line, socket: ClientConnection, queue: Waiting) -> None:
    receive, now_ns, symbol_of, silent, first = socket.recv, time.time_ns, line.symbol_of, line.silent, line.symbols[0]
    while True:
        frame = await receive(decode=False)
        line.heard_ns = stamp = now_ns()
        name = frame[11 : frame.find(b'"', 11)]  # {"stream":"btcusdt@trade",...
        symbol = symbol_of.get(name, "")
        if symbol:
            if silent:
                silent.discard(name)
        elif name == b"!serverShutdown" or frame.startswith(b'{"e":"serverShutdown"'):
            logger.warning("the venue closes %s", line.url)
            return
        elif frame.startswith(b'{"result":null'):
            continue
        if queue.full():
            line.is_blocked = True
            await queue.put((symbol or first, stamp, frame))
            line.is_blocked, line.heard_ns = False, now_ns()
        else:
            queue.put_nowait((symbol or first, stamp, frame))


async def _watch(line: _Line, socket: ClientConnection, silence_s: float) -> None:
    # A dead peer says nothing, and so does a stream on the wrong route: the second is told, the first is cut.
    told, opened_ns, now_ns = False, time.time_ns(), time.time_ns()
    while True:
        asleep_ns = now_ns
        await asyncio.sleep(silence_s / 4)
        now_ns = time.time_ns()
        if now_ns - asleep_ns > silence_s * 0.5e9:  # we were the ones who did not listen
            continue
        if not line.is_blocked and now_ns - line.heard_ns > silence_s * 1e9:
            logger.warning("nothing came for %.0f s: %s", silence_s, line.url)
            socket.transport.abort()
            return
        if line.silent and not told and now_ns - opened_ns > silence_s * 1e9:
            told = True
            logger.warning("subscribed but silent for %.0f s: %s", silence_s, b" ".join(sorted(line.silent)).decode())


async def _fetch_snapshots(
    url: str,
    lines: Sequence[_Line],
    depth_names: Mapping[str, bytes],
    wants_snapshot: Callable[[], Iterable[str]],
    queue: Waiting,
    patience: Patience,
) -> None:
    may_ask_s, failures = dict.fromkeys(depth_names, 0.0), dict.fromkeys(depth_names, 0)
    while True:
        for symbol in list(wants_snapshot()):
            # A snapshot older than the first depth message cannot be joined to the stream.
            is_heard = any(line.is_open and depth_names[symbol] in line.symbol_of.keys() - line.silent for line in lines)
            if not is_heard or time.monotonic() < may_ask_s[symbol]:
                continue
            pause_s, waiting = patience.snapshot_s, [symbol]
            try:
                body = await asyncio.to_thread(_get, url.format(symbol), patience.timeout_s)
                await queue.put((symbol, time.time_ns(), body))
                failures[symbol] = 0
            except (OSError, HTTPException) as error:
                failures[symbol] += 1
                pause_s *= 2.0 ** min(failures[symbol], 5)
                if isinstance(error, HTTPError):
                    error.close()
                    if error.code in (400, 404):
                        raise SnapshotRefusedError(url.format(symbol), error.code) from error
                    told = error.headers.get("Retry-After", "")
                    pause_s = float(told) if told.isdigit() else pause_s
                    if error.code in (418, 429):  # the budget is the address's, not the symbol's
                        waiting = list(may_ask_s)
                logger.warning("snapshot of %s: %s; asking again in %.1f s", symbol, error, pause_s)
            may_ask_s |= dict.fromkeys(waiting, time.monotonic() + pause_s)
        await asyncio.sleep(0.02)


def _get(url: str, timeout_s: float) -> bytes:
    # A proxy is for the venue, never for a server on this machine.
    handlers = [urllib.request.ProxyHandler({})] if url.startswith("http:") else []
    with urllib.request.build_opener(*handlers).open(url, timeout=timeout_s) as answer:
        return bytes(answer.read())
