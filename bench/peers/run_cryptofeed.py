"""cryptofeed: its own Binance message handlers and C order book, frames handed to `message_handler`.

Gap checks are on, as they are by default.  Its handlers know aggregate trades only, so the
trades of the capture are renamed to such before the clock starts.
"""

import asyncio
import re
import time

from contest import LEVELS, Capture, Frame, Level, Quote, main
from cryptofeed.defines import BINANCE, BINANCE_DELIVERY, BINANCE_FUTURES, L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import Binance, BinanceDelivery, BinanceFutures
from cryptofeed.symbols import Symbols

VENUES = {
    "binance_spot": (BINANCE, Binance, "BTC-USDT"),
    "binance_usdm": (BINANCE_FUTURES, BinanceFutures, "BTC-USDT-PERP"),
    "binance_coinm": (BINANCE_DELIVERY, BinanceDelivery, "BTC-USD-PERP"),
}


class _Rest:
    # Stands where the feed's HTTP connection would: the snapshot came with the capture.
    def __init__(self, body: str) -> None:
        self.body = body

    async def read(self, *_: object, **__: object) -> str:
        return self.body


class Cryptofeed:
    """One feed object a round, driven by one event loop."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        identity, self.make, self.symbol = VENUES[capture.venue]
        facts = {"tick_size": {self.symbol: "0.1"}, "instrument_type": {self.symbol: "perpetual"}}
        Symbols.set(identity, {self.symbol: capture.raw_symbol}, facts)
        self.loop = asyncio.new_event_loop()

    def prepare(self, frame: bytes) -> bytes:
        if b'"e":"trade"' not in frame:
            return frame
        frame = frame.replace(b'"e":"trade"', b'"e":"aggTrade"')
        return re.sub(rb'"t":(\d+)', rb'"a":\1,"f":\1,"l":\1', frame)

    def begin(self) -> None:
        self.read, self.count = None, 0
        callbacks = {L2_BOOK: self._on_book, TICKER: self._on_other, TRADES: self._on_other}
        self.feed_object = self.make(symbols=[self.symbol], channels=[L2_BOOK, TICKER, TRADES], callbacks=callbacks)
        self.feed_object.http_conn = _Rest(self.capture.snapshot.decode())
        self.loop.run_until_complete(self.feed_object._snapshot(self.capture.raw_symbol))
        self.read, self.count = None, 0

    async def _on_book(self, book: object, receipt: float) -> None:
        bids, asks = book.book.bids, book.book.asks
        self.read = [bids.index(i) for i in range(LEVELS)], [asks.index(i) for i in range(LEVELS)]
        self.count += 1

    async def _on_other(self, event: object, receipt: float) -> None:
        self.other = event

    async def _run(self, frames: list[Frame]) -> float:
        handle = self.feed_object.message_handler
        start = time.process_time()
        for receive_ns, frame in frames:
            await handle(frame, None, receive_ns / 1e9)
        return time.process_time() - start

    def feed(self, frames: list[Frame]) -> float:
        return self.loop.run_until_complete(self._run(frames))

    def feed_one(self, frame: Frame) -> None:
        # A coroutine that never waits ends at its first step: no loop is needed to run it.
        coroutine = self.feed_object.message_handler(frame[1], None, frame[0] / 1e9)
        try:
            coroutine.send(None)
        except StopIteration:
            return
        raise RuntimeError("a handler waited for something")

    def best(self) -> Quote:
        return tuple(float(value) for side in self.read for value in side[0])

    def top(self) -> tuple[list[Level], list[Level]]:
        return tuple([(float(price), float(size)) for price, size in side] for side in self.read)

    def updates(self) -> int:
        return self.count


if __name__ == "__main__":
    main(Cryptofeed)
