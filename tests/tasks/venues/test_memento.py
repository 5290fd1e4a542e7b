import random
from functools import partial

import msgspec
import pytest

from simulator.capture import frames
from tasks.venues import directory, memento
from tasks.venues.events import BOOK, CHANGE, TRADE, UNREADABLE
from tests.captures import SHARED

VENUES = [venue for venue in directory.VENUES if venue.startswith("binance")]
START_NS = 1_800_000_000_000_000_000
RAW = {"binance_coinm": "BTCUSD_PERP"}


def _told(adapter, market):
    out = []
    sources = {BOOK: adapter.row, TRADE: adapter.trade, CHANGE: adapter.change}
    for receive_ns, frame in market:
        for event in adapter.receive(frame, receive_ns):
            out.append((event, sources[event].tobytes() if event in sources else dict(adapter.unreadable) if event == UNREADABLE else None))
    return out


def _lines(name, symbol, most=1500):
    """Frames of one instrument off a recorded connection, with stamps where the file has none."""
    out = []
    with (SHARED / "fixtures" / name).open("rb") as file:
        for n, line in enumerate(file):
            stamp, space, frame = line.rstrip().partition(b" ")
            stamped = bool(space) and stamp.isdigit()
            if (frame := frame if stamped else line.rstrip()) and symbol.encode() in frame:
                out.append((int(stamp) if stamped else START_NS + n * 1_000_000, frame))
                if len(out) == most:
                    break
    return out


def _simulated(venue, symbol):
    return [line for seed in (1, 2) for line in [*frames(venue, symbol, 8.0, seed), (0, b""), (0, b'{"e":')]]


MARKETS = [
    pytest.param(venue, RAW.get(venue, "BTCUSDT"), partial(_simulated, venue, RAW.get(venue, "BTCUSDT")), id=venue) for venue in VENUES
]
MARKETS += [
    pytest.param(venue, symbol, partial(_lines, name, symbol), id=venue)
    for venue, symbol, name in (
        ("bybit_linear", "BTCUSDT", "bybit_v5/linear_orderbook50_btcusdt_20260812.jsonl"),
        ("coinbase_exchange", "DASH-BTC", "coinbase_exchange/level2_ticker_matches_10products_20210417.txt"),
        ("coinbase_advanced", "BTC-USD", "coinbase_advanced/SYNTHETIC_l2_data_heartbeats_nautilus.jsonl"),
        ("kraken", "BTC/USD", "kraken_v2/book10_btcusd_20261006.jsonl"),
        ("okx", "BTC-USDT", "okx_v5/books_trades_tickers_20220513.txt"),
        ("hyperliquid", "BTC", "hyperliquid/btc_20250126_full.txt"),
    )
    if (SHARED / "fixtures" / name).is_file()
]


@pytest.mark.parametrize(("venue", "raw", "market"), MARKETS)
def test_an_adapter_taken_up_anywhere_goes_on_as_the_first(venue, raw, market):
    market, rng = market(), random.Random(venue)
    cuts = [0, *sorted(rng.sample(range(len(market)), min(6, len(market) - 1)))]
    for cut in cuts:
        first = directory.adapter(venue, raw, {"l2_snapshots": 7, "event": 100}, 5)
        _told(first, market[:cut])
        state = memento.save(first)
        second = directory.adapter(venue, raw, {"l2_snapshots": 3}, 9)
        _told(second, market[cut // 2 : cut // 2 + 50])  # whatever it knew
        memento.restore(second, state)
        rest = market[cut:]
        told = _told(first, rest)
        assert _told(second, rest) == told
        assert cut or any(event == BOOK for event, _ in told)
        assert second.counts == first.counts
        assert (second.is_live, second.needs_snapshot) == (first.is_live, first.needs_snapshot)


def test_a_state_of_another_kind_or_cut_is_refused():
    state = memento.save(directory.adapter("binance_usdm", "BTCUSDT"))
    for bad in (state[:1000], b"", b"\xc0", msgspec.msgpack.encode(["object", "os:system", {}])):
        with pytest.raises(memento.StateError):
            memento.restore(directory.adapter("binance_usdm", "BTCUSDT"), bad)
    node = msgspec.msgpack.decode(state)
    node[2]["brand_new"] = ["plain", 1]
    with pytest.raises(memento.StateError, match="brand_new"):
        memento.restore(directory.adapter("binance_usdm", "BTCUSDT"), msgspec.msgpack.encode(node))
    node[2].pop("brand_new")
    node[2]["_rare_counts"] = ["object", "os.path:join", {}]
    with pytest.raises(memento.StateError, match=r"tasks\.venues"):
        memento.restore(directory.adapter("binance_usdm", "BTCUSDT"), msgspec.msgpack.encode(node))


def test_what_cannot_be_kept_is_told_and_not_raised_while_recording(caplog):
    adapter = directory.adapter("binance_usdm", "BTCUSDT")
    adapter.socket = object.__new__(type("Socket", (), {}))
    assert memento.saved(adapter) == b""
    assert "Binance.socket" in caplog.text
