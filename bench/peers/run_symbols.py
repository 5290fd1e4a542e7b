"""cryptofeed on many symbols of a simulated Binance USD-M: its sockets, its books, callbacks that count."""

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from contextlib import suppress
from importlib import import_module

from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
from cryptofeed.defines import L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import BinanceFutures

SETTLE_S, AWAIT_S = 5.0, 90.0


def pointed_at(port):
    """Return the feed's class with its addresses on loopback and the fastest book."""

    def connect(feed):
        made = BinanceFutures.connect(feed)
        for connection, *_ in made:  # it accepts encrypted addresses alone, and the simulator speaks plainly to everybody
            connection.address = connection.address.replace("wss://", "ws://")
        return made

    rest = Routes("/fapi/v1/exchangeInfo", l2book="/fapi/v1/depth?symbol={}&limit={}", open_interest="/fapi/v1/openInterest?symbol={}")
    told = {
        "websocket_endpoints": [WebsocketEndpoint(f"wss://127.0.0.1:{port}", options={"compression": None})],
        "rest_endpoints": [RestEndpoint(f"http://127.0.0.1:{port}", routes=rest)],
        "valid_depth_intervals": {"0ms"},
        "default_depth_interval": None,
        "connect": connect,
    }
    return type("Local", (BinanceFutures,), told)


def main():
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--symbols", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--port", type=int)
    given = parser.parse_args()
    counts, live = Counter(), set()

    async def on_book(book, receipt):
        live.add(book.symbol)

    async def on_other(event, receipt):
        pass

    make, handler = pointed_at(given.port), FeedHandler()
    names = [f"SIM{i:03d}-USDT-PERP" for i in range(1, given.symbols + 1)]
    callbacks = {L2_BOOK: on_book, TICKER: on_other, TRADES: on_other}
    feed = make(depth_interval="0ms", symbols=names, channels=[L2_BOOK, TICKER, TRADES], callbacks=callbacks)
    plain = feed.message_handler

    async def counted(message, connection, receipt):
        counts["messages"] += 1
        await plain(message, connection, receipt)

    feed.message_handler = counted
    handler.add_feed(feed)

    async def watch():
        running = asyncio.create_task(handler.run_async(install_signal_handlers=False))
        until_s = time.monotonic() + AWAIT_S
        while time.monotonic() < until_s and len(live) < given.symbols:
            await asyncio.sleep(0.2)
            if running.done():
                running.result()  # what ended it
        await asyncio.sleep(SETTLE_S)
        began, before, wall_s = time.process_time(), counts["messages"], time.monotonic()
        await asyncio.sleep(given.seconds)
        told = {"messages": counts["messages"] - before, "cpu_s": time.process_time() - began, "wall_s": time.monotonic() - wall_s}
        print(json.dumps(told | {"live": len(live)}), flush=True)
        running.cancel()
        os._exit(0)  # its connections need not be closed one by one

    loop_factory = None
    if handler.config.uvloop:
        with suppress(ImportError):
            loop_factory = import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(watch())


if __name__ == "__main__":
    main()
