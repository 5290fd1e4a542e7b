"""ccxt.pro: its own WebSocket client's text handler, message handlers and order book.

The exchange object knows one market, given to it as its REST call would have described it;
the snapshot comes from the capture.  Nobody waits for a future, which spares ccxt that work.
"""

import asyncio
import json
import time

import ccxt.pro
from contest import LEVELS, Capture, Frame, Level, Quote, main

MARKETS = {
    "binance_spot": ("binance", "BTC/USDT", "USDT", "spot", "wss://stream.binance.com:9443/stream"),
    "binance_usdm": ("binance", "BTC/USDT:USDT", "USDT", "swap", "wss://fstream.binance.com/public/ws"),
    "binance_coinm": ("binance", "BTC/USD:BTC", "USD", "swap", "wss://dstream.binance.com/ws"),
}


class Ccxt:
    """One exchange object; a fresh book each round."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        name, self.symbol, quote, kind, self.url = MARKETS[capture.venue]
        self.loop = asyncio.new_event_loop()
        self.exchange = self.loop.run_until_complete(self._make(name))
        contract = kind == "swap"
        market = self.exchange.safe_market_structure(
            {
                "id": capture.raw_symbol, "symbol": self.symbol, "base": "BTC", "quote": quote,
                "settle": self.symbol.partition(":")[2] or None,
                "baseId": "BTC", "quoteId": quote, "type": kind, "spot": not contract, "swap": contract, "contract": contract,
                "linear": contract and quote == "USDT", "inverse": contract and quote == "USD", "contractSize": 1.0 if contract else None,
                "precision": {"price": 0.01, "amount": 0.00001}, "limits": {}, "info": {}, "active": True,
            }
        )  # fmt: skip
        self.exchange.set_markets([market])
        self.loop.run_until_complete(self._connect())
        self.exchange.fetch_rest_order_book_safe = self._fetch
        self.apply, self.exchange.handle_order_book_message = self.exchange.handle_order_book_message, self._applied

    async def _make(self, name: str) -> object:
        return getattr(ccxt.pro, name)()

    async def _connect(self) -> None:
        self.client = self.exchange.client(self.url)

    async def _fetch(self, symbol: str, *_: object) -> dict:
        body = json.loads(self.capture.snapshot)
        book = self.exchange.parse_order_book(body, symbol, body.get("E"))
        book["nonce"] = body["lastUpdateId"]
        return book

    def prepare(self, frame: bytes) -> bytes:
        return frame.decode()  # aiohttp hands text over

    def begin(self) -> None:
        exchange = self.exchange
        exchange.orderbooks[self.symbol] = self.book = exchange.order_book({}, 1000)
        exchange.trades.clear()
        # Both kinds of futures follow one rule of continuity, which ccxt calls linear.
        kind = "spot" if self.capture.venue == "binance_spot" else "linear"
        subscription = {"symbol": self.symbol, "limit": 1000, "type": kind, "params": {}}
        self.loop.run_until_complete(exchange.fetch_order_book_snapshot(self.client, {}, subscription))
        self.read, self.count, self.changed = None, 0, False

    def _applied(self, client: object, message: dict, book: dict) -> dict:
        self.changed = True
        return self.apply(client, message, book)

    def _read_out(self) -> None:
        if self.changed:
            self.changed, book = False, self.book
            self.read = [(row[0], row[1]) for row in book["bids"][:LEVELS]], [(row[0], row[1]) for row in book["asks"][:LEVELS]]
            self.count += 1

    def feed(self, frames: list[Frame]) -> float:
        handle, read_out = self.client.handle_text_or_binary_message, self._read_out
        start = time.process_time()
        for _, frame in frames:
            handle(frame)
            read_out()
        return time.process_time() - start

    def feed_one(self, frame: Frame) -> None:
        self.client.handle_text_or_binary_message(frame[1])
        self._read_out()

    def best(self) -> Quote:
        return (*self.read[0][0], *self.read[1][0])

    def top(self) -> tuple[list[Level], list[Level]]:
        return self.read

    def updates(self) -> int:
        return self.count


if __name__ == "__main__":
    main(Ccxt)
