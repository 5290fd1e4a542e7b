"""Frames as Binance writes them, made by hand."""

import json

RAW = {"binance_spot": "BTCUSDT", "binance_usdm": "BTCUSDT", "binance_coinm": "BTCUSD_PERP"}
VENUES = tuple(RAW)


def _text(data, stream=None):
    return json.dumps({"stream": stream, "data": data} if stream else data, separators=(",", ":")).encode()


def _levels(levels):
    return [[str(price), str(size)] for price, size in levels]


def depth(venue, first, last, bids=(), asks=(), previous=None, ms=None, symbol=None):
    """Return a depth event of the ids first..last; `previous` is the futures' `pu`, first - 1 if not given."""
    symbol, ms = symbol or RAW[venue], ms if ms is not None else 1_700_000_000_000 + last
    data = {"e": "depthUpdate", "E": ms}
    if venue != "binance_spot":
        data["T"] = ms
    data |= {"s": symbol, "U": first, "u": last}
    if venue != "binance_spot":
        data["pu"] = first - 1 if previous is None else previous
    data |= {"b": _levels(bids), "a": _levels(asks)}
    return _text(data, f"{symbol.lower()}@depth@0ms")


def snapshot(venue, last, bids=(), asks=(), ms=None):
    """Return the body of a REST depth response."""
    data = {"lastUpdateId": last}
    if venue != "binance_spot":
        ms = ms if ms is not None else 1_700_000_000_000 + last
        data |= {"E": ms + 5, "T": ms}
    if venue == "binance_coinm":
        data |= {"symbol": RAW[venue], "pair": "BTCUSD"}
    return _text(data | {"bids": _levels(bids), "asks": _levels(asks)})


def trade(venue, trade_id, price="100.00", size="2", maker=False, kind="MARKET", ms=None, name="trade"):
    """Return a trade, or an aggregated one."""
    ms = ms if ms is not None else 1_700_000_000_000 + trade_id
    data = {"e": name, "E": ms + 3, "s": RAW[venue]}
    data |= {"a": trade_id, "p": price, "q": size, "f": 7, "l": 9} if name == "aggTrade" else {"t": trade_id, "p": price, "q": size}
    data |= {"T": ms}
    if venue != "binance_spot" and name == "trade":
        data["X"] = kind
    return _text(data | {"m": maker} | ({"M": True} if venue == "binance_spot" else {}), f"{RAW[venue].lower()}@{name}")


def ticker(venue, update_id, bid, bid_size, ask, ask_size, ms=None):
    """Return a bookTicker."""
    data = {"u": update_id, "s": RAW[venue], "b": str(bid), "B": str(bid_size), "a": str(ask), "A": str(ask_size)}
    if venue != "binance_spot":
        ms = ms if ms is not None else 1_700_000_000_000 + update_id
        data = {"e": "bookTicker"} | data | {"T": ms, "E": ms}
    return _text(data, f"{RAW[venue].lower()}@bookTicker")
