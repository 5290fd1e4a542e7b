"""nautilus: the schemas of its Python adapter for Binance futures, and its own (Rust) order book.

The steps are those of its data client: peek at the stream name, find the handler, decode,
make its objects.  Its client checks no continuity; the join with the snapshot is made here.
No levels are read out in the timed passes: its book only gives all of a side, thousands.
"""

import json
import time

import msgspec
from contest import LEVELS, Capture, Frame, Level, Quote, main
from nautilus_trader.adapters.binance.common.schemas.market import BinanceDataMsgWrapper, BinanceDepth, BinanceOrderBookMsg, BinanceQuoteMsg
from nautilus_trader.adapters.binance.futures.schemas.market import BinanceFuturesTradeMsg
from nautilus_trader.model.book import OrderBook
from nautilus_trader.model.enums import BookType
from nautilus_trader.model.identifiers import InstrumentId


class Nautilus:
    """One book object a round."""

    def __init__(self, capture: Capture) -> None:
        if capture.venue == "binance_spot":
            raise SystemExit("the nautilus runner reads futures captures only")
        self.capture = capture
        self.instrument_id = InstrumentId.from_str(f"{capture.raw_symbol}-PERP.BINANCE")
        self.peek = msgspec.json.Decoder(BinanceDataMsgWrapper).decode
        self.decode_book = msgspec.json.Decoder(BinanceOrderBookMsg).decode
        self.decode_quote = msgspec.json.Decoder(BinanceQuoteMsg).decode
        self.decode_trade = msgspec.json.Decoder(BinanceFuturesTradeMsg).decode
        self.handlers = {"@bookTicker": self._on_quote, "@trade": self._on_trade, "@depth@": self._on_book}

    def prepare(self, frame: bytes) -> bytes:
        return frame.replace(b'@depth"', b'@depth@0ms"')  # its client subscribes with an interval, and finds the handler by it

    def begin(self) -> None:
        body = json.loads(self.capture.snapshot)
        for name in ("symbol", "pair"):
            body.setdefault(name, self.capture.raw_symbol)
        depth = msgspec.convert(body, BinanceDepth)
        self.book = OrderBook(self.instrument_id, BookType.L2_MBP)
        self.book.apply_deltas(depth.parse_to_order_book_snapshot(self.instrument_id, 0))
        self.snapshot_id, self.count = depth.lastUpdateId, 0

    def _on_book(self, frame: bytes, receive_ns: int) -> None:
        message = self.decode_book(frame)
        if message.data.u < self.snapshot_id:
            return
        self.book.apply_deltas(message.data.parse_to_order_book_deltas(instrument_id=self.instrument_id, ts_init=receive_ns))
        self.count += 1

    def _on_quote(self, frame: bytes, receive_ns: int) -> None:
        self.other = self.decode_quote(frame).data.parse_to_quote_tick(instrument_id=self.instrument_id, ts_init=receive_ns)

    def _on_trade(self, frame: bytes, receive_ns: int) -> None:
        self.other = self.decode_trade(frame).data.parse_to_trade_tick(instrument_id=self.instrument_id, ts_init=receive_ns)

    def feed_one(self, frame: Frame) -> None:
        receive_ns, body = frame
        stream = self.peek(body).stream
        for name, handler in self.handlers.items():
            if name in stream:
                handler(body, receive_ns)

    def feed(self, frames: list[Frame]) -> float:
        one = self.feed_one
        start = time.process_time()
        for frame in frames:
            one(frame)
        return time.process_time() - start

    def best(self) -> Quote:
        book = self.book
        quote = book.best_bid_price(), book.best_bid_size(), book.best_ask_price(), book.best_ask_size()
        return tuple(float(str(value)) for value in quote)  # float() of its prices is off by an ulp or so

    def top(self) -> tuple[list[Level], list[Level]]:
        sides = self.book.bids(), self.book.asks()
        return tuple([(float(str(level.price)), level.size()) for level in side[:LEVELS]] for side in sides)

    def updates(self) -> int:
        return self.count


if __name__ == "__main__":
    main(Nautilus)
