"""A simulated venue for a test to talk to: start it, dial it, ask it."""

import asyncio
import contextlib
import json
import urllib.request
from urllib.error import HTTPError

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from simulator.server import serve

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def run(body, venues=("binance_usdm",), limit_s=30, **options):
    """Serve venues, at twenty times the wall clock, for as long as the coroutine function `body` takes."""

    async def inside():
        async with asyncio.timeout(limit_s), await serve(venues, **({"seed": 1, "speed": 20.0} | options)) as market:
            return await body(market)

    return asyncio.run(inside())


def dial(market, venue, path, **options):
    """Connect without limits: a client that stops reading for a while would miss the closing handshake."""
    usual = dict.fromkeys(("compression", "proxy", "ping_interval", "max_queue", "max_size")) | {"close_timeout": 1, "open_timeout": 30}
    return connect(market.ws_url(venue) + path, **(usual | options))


async def get(url):
    """Return status, headers and body of a request."""

    def fetch():
        try:
            with OPENER.open(url, timeout=5) as answer:
                return answer.status, dict(answer.headers), json.loads(answer.read())
        except HTTPError as error:
            with error:
                return error.code, dict(error.headers), json.loads(error.read())

    return await asyncio.to_thread(fetch)


async def until_closed(socket):
    """Return what comes until the connection ends."""
    taken = []
    with contextlib.suppress(ConnectionClosed):
        async for message in socket:
            taken.append(message)
    return taken


async def take(socket, n):
    """Return the next messages."""
    return [await socket.recv() for _ in range(n)]
