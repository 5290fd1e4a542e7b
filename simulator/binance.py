"""Binance's public market data as it is written on the wire.  Numbers in, bytes out.

Fields, their order and their decimals are those of captured frames (2024-08) of each venue.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from simulator.desk import writer
from simulator.instruments import Instrument
from simulator.market import DEPTH, TICKER, TRADE

DEPTH_STREAM = {"binance_spot": "depth@100ms", "binance_usdm": "depth@0ms", "binance_coinm": "depth@0ms"}
FEEDS = ("depth", "trade", "bookTicker", "aggTrade")
REST_DEPTH = {"binance_spot": "/api/v3/depth", "binance_usdm": "/fapi/v1/depth", "binance_coinm": "/dapi/v1/depth"}
REST_INFO = {"binance_spot": "/api/v3/exchangeInfo", "binance_usdm": "/fapi/v1/exchangeInfo", "binance_coinm": "/dapi/v1/exchangeInfo"}
WEIGHT_LIMIT = {"binance_spot": 6000, "binance_usdm": 2400, "binance_coinm": 2400}
_SPOT_WEIGHTS = ((100, 5), (500, 25), (1000, 50), (5000, 250))  # a limit up to the first costs the second
_FUTURES_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}  # no other limit is served


class RequestError(Exception):
    """A request the venue answers with an error: HTTP status, venue code and its words."""

    def __init__(self, status: int, code: int, msg: str):
        self.status, self.code, self.msg = status, code, msg
        super().__init__(f"{status} {code} {msg}")


class Wire:
    """One instrument's messages, as one venue writes them.

    Parameters
    ----------
    instrument : Instrument
        Says venue, symbol, grid and decimals.

    Examples
    --------
    >>> from simulator.instruments import instrument
    >>> wire = Wire(instrument("binance_usdm", "BTCUSDT"))
    >>> wire.stream_names()["depth"]
    'btcusdt@depth@0ms'
    >>> wire.price(618002), wire.size(14)
    ('61800.20', '0.014')
    """

    def __init__(self, instrument: Instrument):
        self.instrument = instrument
        self.price = writer(instrument.price_decimals, instrument.price_pad)
        self.size = writer(instrument.size_decimals, instrument.size_pad)
        self._symbol = instrument.raw_symbol
        self._is_spot, self._is_coinm = instrument.venue == "binance_spot", instrument.venue == "binance_coinm"
        self._pair = f',"ps":"{instrument.pair}"' if self._is_coinm else ""

    def stream_names(self) -> dict[str, str]:
        """Return the full stream name of each feed."""
        lower = self._symbol.lower()
        return {feed: f"{lower}@{DEPTH_STREAM[self.instrument.venue] if feed == 'depth' else feed}" for feed in FEEDS}

    def messages(self, events: np.ndarray, levels: np.ndarray, feeds: Iterable[str] = FEEDS[:3]) -> Iterable[tuple[int, str, str]]:
        """Yield `(exchange_ns, feed, payload)` of every event of the wanted feeds, oldest first."""
        wanted = frozenset(feeds)
        deep, quoted = "depth" in wanted, "bookTicker" in wanted
        rows = levels.tolist() if deep else []
        for kind, exchange_ns, transact_ns, id_, first_id, previous_id, a, b, c, d in events.tolist():
            event_ms, transact_ms = exchange_ns // 1_000_000, transact_ns // 1_000_000
            if kind == TICKER and quoted:
                yield exchange_ns, "bookTicker", self._ticker(id_, a, b, c, d, transact_ms, event_ms)
            elif kind == TRADE:
                if "trade" in wanted:
                    yield exchange_ns, "trade", self._trade(id_, a, b, c, transact_ms, event_ms)
                if "aggTrade" in wanted:
                    yield exchange_ns, "aggTrade", self._agg_trade(id_, a, b, c, transact_ms, event_ms)
            elif kind == DEPTH and deep:
                bids, asks = rows[a : a + b], rows[a + b : a + b + c]
                yield exchange_ns, "depth", self._depth(id_, first_id, previous_id, bids, asks, transact_ms, event_ms)

    def _ticker(self, id_: int, bid: int, bid_size: int, ask: int, ask_size: int, transact_ms: int, event_ms: int) -> str:
        price, size = self.price, self.size
        best = f'"b":"{price(bid)}","B":"{size(bid_size)}","a":"{price(ask)}","A":"{size(ask_size)}"'
        if self._is_spot:
            return f'{{"u":{id_},"s":"{self._symbol}",{best}}}'
        if self._is_coinm:
            return f'{{"u":{id_},"e":"bookTicker","s":"{self._symbol}"{self._pair},{best},"T":{transact_ms},"E":{event_ms}}}'
        return f'{{"e":"bookTicker","u":{id_},"s":"{self._symbol}",{best},"T":{transact_ms},"E":{event_ms}}}'

    def _trade(self, id_: int, tick: int, units: int, aggressor: int, transact_ms: int, event_ms: int) -> str:
        sold = "true" if aggressor < 0 else "false"  # m: the buyer was the maker
        what = f'"t":{id_},"p":"{self.price(tick)}","q":"{self.size(units)}"'
        if self._is_spot:
            return f'{{"e":"trade","E":{event_ms},"s":"{self._symbol}",{what},"T":{transact_ms},"m":{sold},"M":true}}'
        return f'{{"e":"trade","E":{event_ms},"T":{transact_ms},"s":"{self._symbol}",{what},"X":"MARKET","m":{sold}}}'

    def _agg_trade(self, id_: int, tick: int, units: int, aggressor: int, transact_ms: int, event_ms: int) -> str:
        sold = "true" if aggressor < 0 else "false"
        best_match = ',"M":true' if self._is_spot else ""
        return (
            f'{{"e":"aggTrade","E":{event_ms},"a":{id_},"s":"{self._symbol}","p":"{self.price(tick)}","q":"{self.size(units)}",'
            f'"f":{id_},"l":{id_},"T":{transact_ms},"m":{sold}{best_match}}}'
        )

    def _depth(self, id_: int, first_id: int, previous_id: int, bids: list, asks: list, transact_ms: int, event_ms: int) -> str:
        if self._is_spot:  # spot writes bids from the best down, futures by rising price
            bids = bids[::-1]
        sides = f'"b":[{self._levels(bids)}],"a":[{self._levels(asks)}]'
        if self._is_spot:
            return f'{{"e":"depthUpdate","E":{event_ms},"s":"{self._symbol}","U":{first_id},"u":{id_},{sides}}}'
        return (
            f'{{"e":"depthUpdate","E":{event_ms},"T":{transact_ms},"s":"{self._symbol}"{self._pair},'
            f'"U":{first_id},"u":{id_},"pu":{previous_id},{sides}}}'
        )

    def _levels(self, rows: list) -> str:
        price, size = self.price, self.size
        return ",".join([f'["{price(tick)}","{size(units)}"]' for tick, units in rows])

    def snapshot(self, update_id: int, bids: np.ndarray, asks: np.ndarray, exchange_ns: int) -> bytes:
        """Return the body of a REST depth answer."""
        ms = exchange_ns // 1_000_000
        head = "" if self._is_spot else f'"E":{ms},"T":{ms},'
        head += f'"symbol":"{self._symbol}","pair":"{self.instrument.pair}",' if self._is_coinm else ""
        sides = f'"bids":[{self._levels(bids.tolist())}],"asks":[{self._levels(asks.tolist())}]'
        return f'{{"lastUpdateId":{update_id},{head}{sides}}}'.encode()


def envelope(stream: str, payload: str) -> bytes:
    """Return a payload as `/stream` sends it, with the name of its stream."""
    return f'{{"stream":"{stream}","data":{payload}}}'.encode()


def depth_request(venue: str, fields: Mapping[str, str]) -> tuple[str, int, int]:
    """Return symbol, limit and request weight of a depth query.

    Examples
    --------
    >>> depth_request("binance_usdm", {"symbol": "BTCUSDT", "limit": "1000"})
    ('BTCUSDT', 1000, 20)
    """
    if "symbol" not in fields:
        raise RequestError(400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
    text = fields.get("limit", "100" if venue == "binance_spot" else "500")
    limit = int(text) if text.isdigit() else 0
    if venue == "binance_spot":
        limit = min(limit, 5000)  # spot cuts what it cannot serve, futures refuse
        weight = next((cost for top, cost in _SPOT_WEIGHTS if 0 < limit <= top), 0)
    else:
        weight = _FUTURES_WEIGHTS.get(limit, 0)
    if not weight:
        raise RequestError(400, -4021, f"'{text}' is not valid depth limit.")
    return fields["symbol"].upper(), limit, weight


def exchange_info(instruments: Iterable[Instrument]) -> dict[str, object]:
    """Return what an instrument's grid and contract are, in the venue's shape."""
    symbols = []
    for made in instruments:
        tick, step = f"{made.tick:.{made.price_decimals}f}", f"{10.0**-made.size_decimals:.{made.size_decimals}f}"
        row: dict[str, object] = {"symbol": made.raw_symbol, "status": "TRADING", "baseAsset": made.base, "quoteAsset": made.quote}
        if made.venue != "binance_spot":
            row |= {"pair": made.pair, "contractType": "PERPETUAL", "deliveryDate": 4_133_404_800_000}
            row["marginAsset"] = made.base if made.contract_usd else made.quote
        if made.contract_usd:
            row |= {"contractStatus": "TRADING", "contractSize": int(made.contract_usd)}
        row["filters"] = [{"filterType": "PRICE_FILTER", "tickSize": tick}, {"filterType": "LOT_SIZE", "stepSize": step}]
        symbols.append(row)
    return {"timezone": "UTC", "symbols": symbols}
