"""What a venue serves of its past over REST, page by page, through ccxt: candles, funding rates, open interest."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import ccxt
import numpy as np
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from warehouse.schema import row_dtype

KINDS = {"ohlcv": "ohlcv", "funding": "funding_rates", "open-interest": "open_interest"}
_CLASS = {
    "binance_spot": "binance", "binance_usdm": "binanceusdm", "binance_coinm": "binancecoinm", "bybit_spot": "bybit",
    "bybit_linear": "bybit", "coinbase_exchange": "coinbaseexchange", "coinbase_advanced": "coinbase", "kraken": "kraken", "okx": "okx",
    "hyperliquid": "hyperliquid",
}  # fmt: skip
_PAGE = {  # rows of a page: the most that a venue gives
    "ohlcv": {"coinbaseexchange": 300, "coinbase": 300, "kraken": 720, "okx": 300},
    "funding": {"bybit": 200, "okx": 100, "hyperliquid": 500},
    "open-interest": {"bybit": 200, "okx": 100, "binanceusdm": 500, "binancecoinm": 500},
}
_USUAL_PAGE = {"ohlcv": 1000, "funding": 1000, "open-interest": 200}
_MARKETS = {"binance_spot": "spot", "binance_usdm": "linear", "binance_coinm": "inverse", "bybit_spot": "spot", "bybit_linear": "linear"}
_FUNDING_MS = 3_600_000  # no venue pays more often
_SETTLE_MS = {"ohlcv": 10_000, "funding": 300_000, "open-interest": 60_000}  # for venues to finish what has ended
_TRIES, _LONGEST_S = 8, 60.0


class FetchError(Exception):
    """History that could not be had."""


class NotServedError(FetchError):
    """A kind of history that the venue does not have."""

    def __init__(self, venue: str, kind: str, served: list[str]):
        self.venue, self.kind, self.served = venue, kind, served
        super().__init__(f"{venue} serves no {kind}; it serves {', '.join(served) or 'none of ' + ', '.join(KINDS)}")


class NoMarketError(FetchError):
    """A symbol that the venue does not list."""

    def __init__(self, venue: str, symbol: str, unified: str):
        super().__init__(f"{venue} lists no {symbol} ({unified} in ccxt)")


class NoAnswerError(FetchError):
    """A venue that did not answer, however often it was asked."""

    def __init__(self, venue: str, tries: int, last: BaseException):
        super().__init__(f"{venue} did not answer in {tries} tries; the last time: {type(last).__name__}: {last}")


class BlockedError(FetchError):
    """A venue that wants to be left alone for longer than a run waits."""

    def __init__(self, venue: str, wait_s: float):
        super().__init__(f"{venue} wants no request for {wait_s:.0f} s, more than the {_LONGEST_S:.0f} s a run waits; the next asks again")


_blocked: dict[str, float] = {}  # by venue, until when on the monotonic clock


def exchange(venue: str, rest_url: str = "") -> Any:
    """Return ccxt's client of a venue, its own rate limit on.

    Parameters
    ----------
    venue : str
        A venue of `tasks.venues.directory`, or `ccxt_<id>` for any other that ccxt knows.
    rest_url : str
        Of a server that stands for the venue; its own by default.

    Raises
    ------
    FetchError
        ccxt knows no such exchange.
    """
    name = _CLASS.get(venue) or venue.removeprefix("ccxt_")
    if name not in ccxt.exchanges:
        raise FetchError(f"{venue}: ccxt knows no exchange {name!r}; a venue is one of {', '.join(_CLASS)}, or ccxt_<id>")
    client = getattr(ccxt, name)({"enableRateLimit": True, "timeout": 15_000})
    if name in ("binance", "bybit"):
        client.options["fetchMarkets"] = {"types": [_MARKETS[venue]]} if venue in _MARKETS else ["spot"]
    if name == "binance":
        client.options["defaultType"] = "spot"
    client.options["fetchCurrencies"] = False
    client.has["fetchCurrencies"] = False
    if rest_url:
        _point(client, name, rest_url.rstrip("/"))
    return client


def _point(client: Any, name: str, url: str) -> None:
    # Where each client keeps its addresses; the templates hold https and a host that cannot be set alone.
    urls = client.urls["api"]
    if name.startswith("binance"):
        paths = {
            "public": "/api/v3",
            "fapiPublic": "/fapi/v1",
            "fapiData": "/futures/data",
            "dapiPublic": "/dapi/v1",
            "dapiData": "/futures/data",
        }
        urls |= {key: url + path for key, path in paths.items()}
    elif name in ("coinbase", "okx"):
        urls["rest"] = url
    else:
        urls["public"] = url


def unified_symbol(venue: str, symbol: str) -> str:
    """Return ccxt's name of an instrument.

    Examples
    --------
    >>> unified_symbol("binance_usdm", "BTC-USDT-PERP"), unified_symbol("binance_coinm", "BTC-USD-PERP")
    ('BTC/USDT:USDT', 'BTC/USD:BTC')
    """
    base, _, rest = symbol.partition("-")
    quote, _, expiry = rest.partition("-")
    if not expiry:
        return f"{base}/{quote}"
    if venue == "hyperliquid":
        return f"{base}/USDC:USDC"
    return f"{base}/{quote}:{base if quote == 'USD' else quote}" + ("" if expiry == "PERP" else f"-{expiry}")


class Source:
    """One kind of history of one instrument, page by page.

    Parameters
    ----------
    client : ccxt exchange
    venue, symbol : str
        Ours.
    kind : str
        A key of `KINDS`.
    timeframe : str
        Of candles and of open interest, as ccxt writes it: 1m, 1h.

    Raises
    ------
    NotServedError, NoMarketError, NoAnswerError
    """

    def __init__(self, client: Any, venue: str, symbol: str, kind: str, timeframe: str):
        if kind not in KINDS:
            raise FetchError(f"expected one of {', '.join(KINDS)}, received {kind!r}")
        self.client, self.venue, self.symbol, self.kind, self.timeframe = client, venue, symbol, kind, timeframe
        names = {"ohlcv": "fetchOHLCV", "funding": "fetchFundingRateHistory", "open-interest": "fetchOpenInterestHistory"}
        if not client.has.get(names[kind]) or (kind != "ohlcv" and "PERP" not in symbol):
            raise NotServedError(venue, f"{kind} of {symbol}", [k for k, name in names.items() if client.has.get(name)])
        self._asked(client.load_markets)
        self.unified = unified_symbol(venue, symbol)
        if self.unified not in client.markets:
            raise NoMarketError(venue, symbol, self.unified)
        self.step_ms = client.parse_timeframe(timeframe) * 1000 if kind != "funding" else _FUNDING_MS
        self.page = _PAGE[kind].get(client.id, _USUAL_PAGE[kind])

    def _asked(self, call: Callable[..., Any], *given: Any) -> Any:
        if (left_s := _blocked.get(self.venue, 0.0) - time.monotonic()) > 0.0:
            raise BlockedError(self.venue, left_s)

        def wait_s(state: RetryCallState) -> float:
            told = str((self.client.last_response_headers or {}).get("Retry-After", ""))
            if told.isdigit() and float(told) > _LONGEST_S:  # asked again before, a venue bans for longer
                _blocked[self.venue] = time.monotonic() + float(told)
                raise BlockedError(self.venue, float(told))
            return float(told) if told.isdigit() else min(_LONGEST_S, 0.5 * 2.0**state.attempt_number)

        for attempt in Retrying(
            retry=retry_if_exception_type(ccxt.NetworkError), wait=wait_s, stop=stop_after_attempt(_TRIES), reraise=False,
            retry_error_callback=lambda state: self._give_up(state),
        ):  # fmt: skip
            with attempt:
                return call(*given)
        raise NoAnswerError(self.venue, _TRIES, ccxt.NetworkError("no answer"))

    def _give_up(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        raise NoAnswerError(self.venue, state.attempt_number, error or ccxt.NetworkError("no answer")) from error

    def settled_ms(self) -> int:
        """Return until when history is final, in Unix ms: the earlier of the venue's clock and ours, less a while to settle."""
        ours = self.client.milliseconds()
        venues = self._asked(self._clock_ms) if self.client.has.get("fetchTime") else None
        return int(min(ours, venues or ours)) - _SETTLE_MS[self.kind]

    def _clock_ms(self) -> int | None:
        try:
            return self.client.fetch_time()  # type: ignore[no-any-return]
        except (ccxt.DDoSProtection, ccxt.RateLimitExceeded):
            raise
        except ccxt.BaseError:  # our clock alone will do
            return None

    def pages(self, start_ms: int, end_ms: int, sure_ms: int) -> Iterator[tuple[np.ndarray, int]]:
        """Yield rows in the order of time, and up to when they are whole; both ends as asked, half open.

        An answer that ends early is asked on from there.  Where nothing more comes after `sure_ms` it ends: that is served later.
        """
        at = start_ms
        while at < end_ms:
            until = min(end_ms, at + self.page * self.step_ms)
            told = self._page(at, until)
            at, first = until, at
            ms = np.array([row[0] for row in told], np.int64)
            keep = (ms >= first) & (ms < until)
            if not (ms >= until).any():  # else the venue went on behind it
                if not keep.any() and until > sure_ms and self.kind != "funding":
                    return
                if keep.any():
                    at = until = min(until, int(ms[keep].max()) + (1 if self.kind == "funding" else self.step_ms))
            rows = np.zeros(int(keep.sum()), row_dtype(KINDS[self.kind]))
            rows["exchange_ns"] = ms[keep] * 1_000_000
            rows["receive_ns"] = time.time_ns()
            for i, name in enumerate(self._columns(), 1):
                rows[name] = np.array([row[i] for row in told], float)[keep]
            if self.kind == "ohlcv":
                rows["span_s"] = self.step_ms // 1000
            order = np.argsort(rows["exchange_ns"], kind="stable")
            _, once = np.unique(rows["exchange_ns"][order], return_index=True)
            yield rows[order][once], until

    def _columns(self) -> tuple[str, ...]:
        return {
            "ohlcv": ("open", "high", "low", "close", "volume"), "funding": ("funding_rate",), "open-interest": ("amount", "value"),
        }[self.kind]  # fmt: skip

    def _page(self, at: int, until: int) -> list[tuple[float, ...]]:
        # ccxt's `until` is the last moment itself.
        client, nan = self.client, float("nan")
        if self.kind == "ohlcv":
            told = self._asked(client.fetch_ohlcv, self.unified, self.timeframe, at, self.page, {"until": until - 1})
            return [(row[0], *(nan if value is None else value for value in row[1:6])) for row in told]
        if self.kind == "funding":
            told = self._asked(client.fetch_funding_rate_history, self.unified, at, self.page, {"until": until - 1})
            return [(row["timestamp"], row["fundingRate"]) for row in told]
        told = self._asked(client.fetch_open_interest_history, self.unified, self.timeframe, at, self.page, {"until": until - 1})
        return [(row["timestamp"], *_one_side(row, nan)) for row in told]


def _one_side(row: dict[str, Any], nan: float) -> tuple[float, float]:
    # Bybit counts longs and shorts; since 2026-06-11 it tells one side as well.
    info, amount, value = row["info"], row["openInterestAmount"], row["openInterestValue"]
    if "intervalTime" in info or "singleOpenInterest" in info or ("openInterest" in info and "sumOpenInterest" not in info):
        amount = float(info["singleOpenInterest"]) if info.get("singleOpenInterest") else amount and amount / 2.0
    return (nan if amount is None else amount), (nan if value is None else value)
