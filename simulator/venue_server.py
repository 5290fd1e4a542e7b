"""A local server that speaks one venue's own protocol, WebSocket and REST on one port.

It runs the venue's markets, hands what happens to the venue's wire, and brings the messages to those who
asked for them.  Market time runs at `speed` times the wall clock; a client that cannot follow is cut off at
speed 1, as venues do, and slows the market at any higher speed.  Faults come by plan or on demand.
"""

import asyncio
import logging
import math
import time
from collections.abc import Hashable, Mapping
from functools import partial
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed

from simulator.connection import Client, Socket, frame, possible
from simulator.desk import Beat, Desk
from simulator.faults import Dice, FaultPlan
from simulator.front import Front
from simulator.fundamental import Course
from simulator.ledger import Ledger
from simulator.mishaps import befall
from simulator.protocol import BOOK, Message, Moment
from simulator.wires import wire

_BEAT_S, _BEAT_PER_MARKET_S = 0.002, 80e-6
_STEP_NS = 20_000_000
_TICK_S, _FLUSH_S = 0.2, 1.0
_SLOW_BYTES, _CUT_BYTES = 1 << 20, 32 << 20
logger = logging.getLogger(__name__)
_quiet = logging.getLogger("simulator.handshakes")  # to the library every REST request is a rejected handshake, told at INFO
_quiet.setLevel(logging.CRITICAL)


class VenueServer:
    """One venue: its markets, its clients and its faults.

    Parameters
    ----------
    venue : str
    desks : mapping of str to Desk
        Markets by raw symbol, opened at `start_ns`.
    start_ns : int
        Exchange time of the opening.
    speed : float
        Market seconds a wall second.
    plan : FaultPlan
        What goes wrong.
    ledger : Ledger, optional
        Where to write what was published.
    courses : mapping of str to Course
        What the markets follow, by raw symbol; a market without one goes its own way.
    """

    def __init__(
        self, venue: str, desks: Mapping[str, Desk], start_ns: int, speed: float = 1.0, plan: FaultPlan | None = None,
        ledger: Ledger | None = None, courses: Mapping[str, Course] | None = None,
    ):  # fmt: skip
        self.venue, self.speed, self.desks, self._start_ns, self._begun = venue, speed, dict(desks), start_ns, time.monotonic()
        self.markets = {symbol: desk.market for symbol, desk in self.desks.items()}
        self.wire = wire(venue, self.desks)
        self.plan = plan or FaultPlan()
        self.dice = Dice(self.plan, venue)
        self._may = possible(dict(self.wire.spoil))
        self._ledger, self._courses = ledger, dict(courses or {})
        self._books = {symbol: self.wire.book_stream(symbol) for symbol in self.desks}
        self._book_streams = set(self._books.values())
        for desk in self.desks.values():
            desk.skew_ns = int(self.plan.skew_ms * 1e6)
            desk.rest_book(1000)
            if ledger:
                ledger.open(desk.instrument, getattr(self.wire, "ledger_depth", 20))
        self.clients: set[Client] = set()
        self._audience: dict[str, dict[str, dict[Hashable, list[Client]]]] = {}
        self.front = Front(self.wire, self.dice, lambda fault, detail: self.tell(fault, None, "", detail))
        self._drops, self._silent_until, self.sent, self.accepted = 0, 0.0, 0, 0
        self._next_tick_s, self._next_flush_s = 0.0, 0.0
        self._server: Server | None = None
        self._pump: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> None:
        """Open the port and let market time begin."""
        ping_s, pong_s = self.wire.ping_s
        self._server = await serve_websocket(
            self._talk, host, port, process_request=self.front.answer_get, compression=None, ping_interval=ping_s or None,
            ping_timeout=pong_s or None, max_size=1 << 20, write_limit=1 << 20, close_timeout=1, logger=_quiet,
            create_connection=partial(Socket, self.front.answer_post),
        )  # fmt: skip
        self.host, self.port = host, next(iter(self._server.sockets)).getsockname()[1]
        self._begun = time.monotonic()
        self._pump = asyncio.create_task(self._run())
        self._pump.add_done_callback(self._tell_end)

    def _tell_end(self, pump: asyncio.Task[None]) -> None:
        if not pump.cancelled() and (error := pump.exception()):
            logger.critical("the market of %s stopped", self.venue, exc_info=error)

    async def close(self) -> None:
        """Stop the market, announce it where venues do, and close every connection."""
        if self._pump and self._server:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
            for client in self.clients:
                if leave := getattr(client.session, "leave", None):
                    client.reply(leave(self._moment(client)))
                client.flush(math.inf)
                if client.is_half_open:
                    client.close(1006)
            self._server.close()
            await self._server.wait_closed()
        if self._ledger:
            self._ledger.close()

    # -- faults on demand -----------------------------------------------------------------

    def drop_depth(self, messages: int = 1) -> None:
        """Lose the next depth messages on their way to every client."""
        self._drops += messages

    def disconnect(self) -> None:
        """Break every connection without a closing handshake, as a failing network does."""
        for client in list(self.clients):
            client.close(1006)

    def stay_silent(self, seconds: float) -> None:
        """Send nothing for so long, on connections that stay open; what happens meanwhile is lost."""
        self._silent_until = time.monotonic() + seconds

    def refuse_rest(self, requests: int, retry_after_s: float = 1.0) -> None:
        """Answer the next REST requests with 429 and `Retry-After`."""
        self.front.refusals = (requests, retry_after_s)

    @property
    def rest_requests(self) -> int:
        """Return how many REST requests came."""
        return sum(self.front.answers.values())

    def arm(self, fault: str, times: int = 1) -> None:
        """Let a fault befall the next thing that it can befall; `simulator.faults` names them."""
        self.dice.armed[fault] += times

    def restart(self) -> None:
        """Start the venue's engine anew: numbers are reset and books sent again, or connections closed with 1012."""
        renewed = [self.wire.restart(desk) for desk in self.desks.values()]
        self.tell("restart", None, "", "books again" if all(renewed) else "1012")
        for client in list(self.clients):
            if all(renewed):
                client.due |= {stream: None for stream in client.session.streams if stream in self._book_streams}
            else:
                client.close(1012, "service restart")
        self.seat()

    def tell(self, fault: str, client: Client | None, stream: str, detail: str) -> None:
        """Count a fault that happened, and write it into the ledger."""
        self.dice.counts[fault] += 1
        if self._ledger:
            now_ns = min(desk.now_ns for desk in self.desks.values())
            symbol = client.session.streams.get(stream, "") if client else ""
            told = {"at_ns": now_ns, "wall_ns": time.time_ns(), "fault": fault, "connection": client.number if client else 0}
            self._ledger.fault(told | {"stream": stream, "raw_symbol": symbol, "detail": detail})

    # -- the market -----------------------------------------------------------------------

    async def _run(self) -> None:
        beat_s = max(_BEAT_S, _BEAT_PER_MARKET_S * len(self.desks))
        while True:
            now_s = time.monotonic()
            elapsed_s = now_s - self._begun
            target_ns = min(market.now_ns for market in self.markets.values()) + _STEP_NS
            if not math.isinf(self.speed):
                target_ns = min(target_ns, self._start_ns + int(elapsed_s * self.speed * 1e9))
            for symbol, desk in self.desks.items():
                if course := self._courses.get(symbol):
                    desk.market.follow(course.price(target_ns))
                while desk.market.now_ns < target_ns:
                    self._hear(desk, desk.advance(target_ns))
            befall(self, now_s - self._begun)
            self._tick(now_s)
            for client in self.clients:
                self.sent += client.flush(now_s)
            is_behind = math.isinf(self.speed) or self._start_ns + elapsed_s * self.speed * 1e9 - target_ns > _STEP_NS
            await asyncio.sleep(0 if is_behind else beat_s)
            while self._has_slow_client():
                await asyncio.sleep(_BEAT_S)

    def _hear(self, desk: Desk, beat: Beat) -> None:
        symbol = desk.raw_symbol
        hearers = self._audience.get(symbol, {})
        ledger, book = self._ledger, self._books[symbol]
        if ledger:
            for trade in beat.trades():
                ledger.trade(desk, trade, self.wire.trade_id(trade.id))
        if not hearers and not ledger:
            return
        is_silent, is_plain = time.monotonic() < self._silent_until, not self.dice.bothers_messages
        wanted = hearers.keys() | {book} if ledger else hearers.keys()
        for message in self.wire.messages(beat, wanted):
            if ledger and message.kind == BOOK and message.stream == book:
                ledger.book(desk, message.seq, message.exchange_ns)
            if message.kind == BOOK and self._drops:
                self._drops -= 1
            elif not is_silent:
                self._bring(message, hearers.get(message.stream) or {}, is_plain)
        if beat.depth is not None:
            self._begin(desk)

    def _bring(self, message: Message, hearers: dict[Hashable, list[Client]], is_plain: bool) -> None:
        stream, payload = message.stream, message.payload
        for flavour, clients in hearers.items():
            if flavour is None:
                for client in clients:
                    client.send(stream, client.session.seal(stream, payload), self._may)
                continue
            text = clients[0].session.seal(stream, payload)
            data = frame(text) if is_plain else b""
            for client in clients:
                if is_plain and not client.is_bothered:
                    client.out.append(data)
                else:
                    client.send(stream, text, self._may)

    def _begin(self, desk: Desk) -> None:
        # Streams that wait for their first snapshot get it behind a published update.
        seated = False
        for client in self.clients:
            for stream in [stream for stream in client.due if client.session.streams.get(stream) == desk.raw_symbol]:
                payload = self.wire.snapshot(stream, desk, self._moment(client))
                if payload is not None:
                    client.send(stream, client.session.seal(stream, payload), self._may)
                client.served(stream)
                seated = True
        if seated:
            self.seat()

    def _tick(self, now_s: float) -> None:
        if now_s >= self._next_tick_s:
            self._next_tick_s = now_s + _TICK_S
            for client in list(self.clients):
                client.due = {stream: None for stream in client.due if stream in client.session.streams}
                if client.is_open and not client.is_half_open:
                    client.reply(client.session.tick(self._moment(client)))
                if 0.0 < self.plan.lifetime_s < now_s - client.opened_s and client.is_open:
                    client.close(1001, "lifetime")
        if self._ledger and now_s >= self._next_flush_s:
            self._next_flush_s = now_s + _FLUSH_S
            self._ledger.flush()

    def _has_slow_client(self) -> bool:
        waiting = {client: client.socket.transport.get_write_buffer_size() for client in self.clients}
        if self.speed > 1.0:
            return any(size > _SLOW_BYTES for size in waiting.values())
        for client, size in waiting.items():
            if size > _CUT_BYTES:
                client.close(1006)
        return False

    # -- clients --------------------------------------------------------------------------

    def _moment(self, client: Client) -> Moment:
        now_s = time.monotonic()
        return Moment(min(desk.now_ns for desk in self.desks.values()), time.time(), now_s - client.sent_s, now_s - client.heard_s)

    async def _talk(self, connection: ServerConnection) -> None:
        url = urlsplit(connection.request.path if connection.request else "")
        session = self.wire.session(url.path, dict(parse_qsl(url.query)))
        assert session is not None
        self.accepted += 1
        client = Client(connection, session, self.dice, self.accepted, self.tell)
        self.clients.add(client)
        client.reply(session.open(self._moment(client)))
        self.seat()
        client.flush(time.monotonic())
        try:
            async for message in connection:
                text = message if isinstance(message, str) else message.decode(errors="replace")
                client.heard_s, before = time.monotonic(), (dict(session.streams), session.flavour)
                reply = session.receive(text, self._moment(client))
                client.reply(reply)
                if reply.snapshots or before != (session.streams, session.flavour):
                    self.seat()
                client.flush(time.monotonic())
        except ConnectionClosed:
            pass
        finally:
            self.clients.discard(client)
            self.seat()

    def seat(self) -> None:
        """Note anew who hears what: by symbol, stream and flavour; who still waits for a snapshot makes a stream wanted."""
        self._audience = {}
        for client in self.clients:
            for stream, symbol in client.session.streams.items() if not client.is_half_open else ():
                groups = self._audience.setdefault(symbol, {}).setdefault(stream, {})
                if stream not in client.due:
                    groups.setdefault(client.session.flavour, []).append(client)
