"""A local server that speaks one venue's own protocol, WebSocket and REST on one port.

    ws://host:port/stream?streams=a/b    ws://host:port/ws/a    (USD-M: under /public or /market)
    http://host:port/api/v3/depth        /fapi/v1/depth         /dapi/v1/depth, and exchangeInfo

Market time runs at `speed` times the wall clock; a client that cannot follow is cut off at
speed 1, as venues do, and slows the market at any higher speed.  Faults come on demand.
"""

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, broadcast
from websockets.asyncio.server import serve as serve_websocket
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from simulator import binance
from simulator.binance import Wire, envelope
from simulator.instruments import instrument
from simulator.market import Market

# Which feeds each route really delivers; the others are acknowledged and stay silent (seen 2026-09).
ROUTES = {
    "binance_spot": {"": set(binance.FEEDS)},
    "binance_usdm": {"": {"bookTicker", "trade"}, "/public": {"depth", "bookTicker", "trade"}, "/market": {"aggTrade"}},
    "binance_coinm": {"": set(binance.FEEDS)},
}
_PING_S = {"binance_spot": (20, 60), "binance_usdm": (180, 600), "binance_coinm": (180, 600)}
_BEAT_S = 0.002
_STEP_NS = 20_000_000
_SLOW_BYTES, _CUT_BYTES = 1 << 20, 32 << 20
_quiet = logging.getLogger("simulator.handshakes")  # to the library every REST request is a rejected handshake, told at INFO
_quiet.setLevel(logging.WARNING)


class _Client:
    # What one connection asked for.
    def __init__(self, connection: ServerConnection, route: str, is_combined: bool):
        self.connection, self.route, self.is_combined = connection, route, is_combined
        self.streams: dict[str, None] = {}


class VenueServer:
    """One venue: its markets, its clients and its faults."""

    def __init__(self, venue: str, symbols: Iterable[str], seed: int, speed: float, hidden: bool, start_ns: int | None):
        self.venue, self.speed = venue, speed
        self._start_ns, self._begun = start_ns or time.time_ns(), time.monotonic()
        self.markets = {symbol.upper(): Market(instrument(venue, symbol), seed, self._start_ns, hidden) for symbol in symbols}
        self._wires = {symbol: Wire(market.instrument) for symbol, market in self.markets.items()}
        self.clients: set[_Client] = set()
        self._audience: dict[str, tuple[list[ServerConnection], list[ServerConnection]]] = {}
        self._minute, self._weight = 0, 0
        self._drops, self._refusals, self._silent_until = 0, (0, 0.0), 0.0
        self.sent, self.rest_requests, self.accepted = 0, 0, 0
        self._server: Server | None = None
        self._pump: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> None:
        """Open the port and let market time begin."""
        ping_s, pong_s = _PING_S[self.venue]
        self._server = await serve_websocket(
            self._talk, host, port, process_request=self._answer_http, compression=None, ping_interval=ping_s, ping_timeout=pong_s,
            max_size=1 << 20, write_limit=1 << 20, close_timeout=1, logger=_quiet,
        )  # fmt: skip
        self.host, self.port = host, next(iter(self._server.sockets)).getsockname()[1]
        self._pump = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop the market, announce it as venues do since 2026-05, and close every connection."""
        if self._pump and self._server:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
            event = f'{{"e":"serverShutdown","E":{time.time_ns() // 1_000_000}}}'
            for wrapped in (True, False):
                hearers = [client.connection for client in self.clients if client.is_combined is wrapped]
                broadcast(hearers, envelope("!serverShutdown", event) if wrapped else event, text=True)
            self._server.close()
            await self._server.wait_closed()

    # -- faults ---------------------------------------------------------------------------

    def drop_depth(self, messages: int = 1) -> None:
        """Lose the next depth messages on their way to every client."""
        self._drops += messages

    def disconnect(self) -> None:
        """Break every connection without a closing handshake, as a failing network does."""
        for client in list(self.clients):
            client.connection.transport.abort()

    def stay_silent(self, seconds: float) -> None:
        """Send nothing for so long, on connections that stay open; what happens meanwhile is lost."""
        self._silent_until = time.monotonic() + seconds

    def refuse_rest(self, requests: int, retry_after_s: float = 1.0) -> None:
        """Answer the next REST requests with 429 and `Retry-After`."""
        self._refusals = (requests, retry_after_s)

    # -- the market -----------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            elapsed_s = time.monotonic() - self._begun
            target_ns = min(market.now_ns for market in self.markets.values()) + _STEP_NS
            if not math.isinf(self.speed):
                target_ns = min(target_ns, self._start_ns + int(elapsed_s * self.speed * 1e9))
            for symbol, market in self.markets.items():
                while market.now_ns < target_ns:
                    self._send(symbol, *market.advance(target_ns))
            is_behind = math.isinf(self.speed) or self._start_ns + elapsed_s * self.speed * 1e9 - target_ns > _STEP_NS
            await asyncio.sleep(0 if is_behind else _BEAT_S)
            while self._has_slow_client():
                await asyncio.sleep(_BEAT_S)

    def _send(self, symbol: str, events: object, levels: object) -> None:
        wire = self._wires[symbol]
        streams = wire.stream_names()
        feeds = [feed for feed, stream in streams.items() if stream in self._audience]
        if not feeds or time.monotonic() < self._silent_until:
            return
        for _, feed, payload in wire.messages(events, levels, feeds):  # type: ignore[arg-type]
            if feed == "depth" and self._drops:
                self._drops -= 1
                continue
            combined, bare = self._audience[streams[feed]]
            if combined:
                broadcast(combined, envelope(streams[feed], payload), text=True)
            if bare:
                broadcast(bare, payload)
            self.sent += len(combined) + len(bare)

    def _has_slow_client(self) -> bool:
        waiting = {client: client.connection.transport.get_write_buffer_size() for client in self.clients}
        if self.speed > 1.0:
            return any(size > _SLOW_BYTES for size in waiting.values())
        for client, size in waiting.items():
            if size > _CUT_BYTES:
                client.connection.transport.abort()
        return False

    # -- clients --------------------------------------------------------------------------

    async def _talk(self, connection: ServerConnection) -> None:
        request = connection.request
        url = urlsplit(request.path if request else "")
        route = next((route for route in ROUTES[self.venue] if route and url.path.startswith(route + "/")), "")
        path = url.path.removeprefix(route)
        client = _Client(connection, route, path == "/stream")
        self.clients.add(client)
        self.accepted += 1
        names = parse_qs(url.query).get("streams", [""])[0] if client.is_combined else path.removeprefix("/ws").strip("/")
        self._subscribe(client, filter(None, names.split("/")))
        try:
            async for message in connection:
                await connection.send(json.dumps(self._answer(client, message), separators=(",", ":")))
        except ConnectionClosed:
            pass
        finally:
            self.clients.discard(client)
            self._seat()

    def _subscribe(self, client: _Client, streams: Iterable[str]) -> None:
        client.streams |= dict.fromkeys(streams)
        self._seat()

    def _seat(self) -> None:
        # Who hears what: names nobody can deliver on this route are kept, and stay silent.
        self._audience = {}
        for wire in self._wires.values():
            for feed, stream in wire.stream_names().items():
                hearers = [c for c in self.clients if stream in c.streams and feed in ROUTES[self.venue][c.route]]
                if hearers:
                    halves = ([c.connection for c in hearers if c.is_combined is wrapped] for wrapped in (True, False))
                    self._audience[stream] = (next(halves), next(halves))

    def _answer(self, client: _Client, message: str | bytes) -> dict[str, object]:
        try:
            asked = json.loads(message)
        except ValueError as error:
            return {"code": 3, "msg": f"Invalid JSON: {error}"}
        if not isinstance(asked, dict):
            return {"code": 2, "msg": "Invalid request: expected an object"}
        id_, method, params = asked.get("id"), asked.get("method"), asked.get("params", [])
        strings = isinstance(params, list) and all(isinstance(name, str) for name in params)
        match method:
            case "SUBSCRIBE" | "UNSUBSCRIBE" if not strings or not params:
                return {"code": 2, "msg": "Invalid request: params must be an array of stream names", "id": id_}
            case "SUBSCRIBE":
                self._subscribe(client, params)
            case "UNSUBSCRIBE":
                client.streams = {name: None for name in client.streams if name not in params}
                self._seat()
            case "LIST_SUBSCRIPTIONS":
                return {"result": list(client.streams), "id": id_}
            case "SET_PROPERTY":
                if not isinstance(params, list) or len(params) != 2 or params[0] != "combined" or not isinstance(params[1], bool):
                    return {"code": 0, "msg": "Unknown property", "id": id_}
                client.is_combined = params[1]
                self._seat()
            case _:
                return {"code": 2, "msg": f"Invalid request: unknown variant `{method}`", "id": id_}
        return {"result": None, "id": id_}

    # -- REST -----------------------------------------------------------------------------

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        url = urlsplit(request.path)
        if "Upgrade" in request.headers:
            is_known = any(url.path.startswith((f"{route}/ws", f"{route}/stream")) for route in ROUTES[self.venue])
            return None if is_known else connection.respond(HTTPStatus.NOT_FOUND, "")
        self.rest_requests += 1
        minute = int(time.time() // 60)
        self._minute, self._weight = minute, (self._weight if minute == self._minute else 0)
        retry_after_s, body = 0.0, b""
        try:
            if self._refusals[0]:
                retry_after_s, self._refusals = self._refusals[1], (self._refusals[0] - 1, self._refusals[1])
                raise binance.RequestError(429, -1003, "Too many requests; please use the websocket for live updates.")
            weight, body_of = self._find(url.path, url.query)
            if self._weight + weight > binance.WEIGHT_LIMIT[self.venue]:
                retry_after_s = 60 - time.time() % 60
                raise binance.RequestError(429, -1003, "Too much request weight used; please use the websocket for live updates.")
            self._weight += weight
            status, body = 200, body_of()
        except binance.RequestError as error:
            status, body = error.status, json.dumps({"code": error.code, "msg": error.msg}).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        headers["X-MBX-USED-WEIGHT-1M"] = str(self._weight)
        if retry_after_s:
            headers["Retry-After"] = str(math.ceil(retry_after_s))
        return Response(status, HTTPStatus(status).phrase, headers, body)

    def _find(self, path: str, query: str) -> tuple[int, Callable[[], bytes]]:
        if path == binance.REST_INFO[self.venue]:
            return 20, lambda: json.dumps(binance.exchange_info(m.instrument for m in self.markets.values())).encode()
        if path != binance.REST_DEPTH[self.venue]:
            raise binance.RequestError(404, -1, f"no such path: {path}")
        symbol, limit, weight = binance.depth_request(self.venue, query)
        if symbol not in self.markets:
            raise binance.RequestError(400, -1121, "Invalid symbol.")
        market = self.markets[symbol]
        return weight, lambda: self._wires[symbol].snapshot(market.update_id, *market.snapshot(limit), market.now_ns)
