import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.venues import scan as sc
from tasks.venues.book import new_book
from tasks.venues.errors import UnreadableFrameError
from tasks.venues.json_frame import read_json
from tests import wire
from tests.captures import CAPTURES, GENERATED
from tests.strategies import decimal_texts, odd_numbers

NUMBERS = {
    sc.DEPTH: ("event_ms", "transact_ms", "first_id", "last_id", "prev_id", "other_symbol"),
    sc.SNAPSHOT: ("last_id", "other_symbol"),
    sc.TRADE: ("event_ms", "transact_ms", "trade_id", "maker", "off_book", "other_symbol"),
    sc.QUOTE: ("event_ms", "transact_ms", "last_id", "other_symbol"),
}
READ = tuple(NUMBERS)


class Readers:
    """Both ways of reading, each into a book of its own that counts prices in the same units."""

    def __init__(self, venue="binance_spot", decimals=8):
        self.fast, self.slow = (new_book(wire.RAW[venue], venue != "binance_spot")[0] for _ in range(2))
        self.count_in(decimals)

    def count_in(self, decimals):
        self.decimals = self.fast["decimals"][0] = self.slow["decimals"][0] = decimals

    def scan(self, frame):
        """Return the kind the scanner tells, and its numbers; UNUSUAL as well where bytes are left over."""
        msg = self.fast["msg"][0]
        kind, end = sc.scan(frame, 0, self.decimals, self.fast["symbol"][0], msg)
        if kind == sc.FINER:
            return kind, int(msg["finest"])
        if end != len(frame):
            return sc.UNUSUAL, None
        return kind, self._numbers(kind, msg, msg["level_units"], msg["level_size"])

    def json(self, frame):
        """Return the same through the JSON library; UNUSUAL where it refuses the frame."""
        try:
            kind, units, sizes, finest = read_json(frame, self.slow)
        except UnreadableFrameError:
            return sc.UNUSUAL, None
        if finest > self.decimals:
            return sc.FINER, finest
        return kind, self._numbers(kind, self.slow["msg"][0], units, sizes)

    @staticmethod
    def _numbers(kind, msg, units, sizes):
        out = [int(msg[name]) for name in NUMBERS.get(kind, ())]
        if kind in (sc.DEPTH, sc.SNAPSHOT):
            for side in range(2):
                n = int(msg["n"][side])
                out += [n, units[side, :n].tobytes(), sizes[side, :n].tobytes()]
        if kind in (sc.TRADE, sc.QUOTE):
            n = 1 + (kind == sc.QUOTE)
            out += [msg["units"][:n].tobytes(), msg["size"][:n].tobytes()]
        return out

    def agree(self, frame):
        """Assert that the scanner tells what JSON tells, or declines; return the kind."""
        kind, numbers = self.scan(frame)
        if kind in (sc.UNUSUAL, sc.FINER):
            self.json(frame)
            return kind
        told, expected = self.json(frame)
        if kind in (sc.NOTHING, sc.REFUSED):
            assert told in (sc.NOTHING, sc.REFUSED), frame
        else:
            assert (kind, numbers) == (told, expected), frame
        return kind


def _decimals(capture):
    return {"binance_spot": 8, "binance_usdm": 2, "binance_coinm": 1}[capture.venue]


def _sampled(capture, n_bytes=70_000, seed=1):
    # A few frames of each kind, of moderate length.
    rng, found, total = random.Random(seed), [], 0
    frames = [frame for _, frame in capture.frames(400)]
    rng.shuffle(frames)
    frames += [b'{"result":null,"id":1}', b'{"e":"serverShutdown","E":1770123456789}']
    for frame in reversed(frames):
        if len(frame) < 1500 and total < n_bytes:
            found.append(frame)
            total += len(frame)
    return found


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_scanner_reads_captured_frames_as_json_does(capture):
    readers, declined = Readers(capture.venue, _decimals(capture)), 0
    frames = [frame for _, frame in capture.frames()]
    for frame in frames[:: max(1, len(frames) // 2000)]:
        declined += readers.agree(frame) not in READ
    assert declined == 0


@pytest.mark.slow
@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_scanner_reads_every_captured_frame_as_json_does(capture):
    readers = Readers(capture.venue, _decimals(capture))
    assert all(readers.agree(frame) in READ for _, frame in capture.frames())


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_levels_are_what_float_makes_of_the_text(capture):
    readers = Readers(capture.venue, _decimals(capture))
    for _, frame in capture.frames(60):
        kind, _ = readers.scan(frame)
        if kind not in (sc.DEPTH, sc.SNAPSHOT):
            continue
        data, msg = json.loads(frame), readers.fast["msg"][0]
        data = data.get("data", data)
        for side, name in enumerate(("b", "a") if kind == sc.DEPTH else ("bids", "asks")):
            n = msg["n"][side]
            assert (msg["level_units"][side, :n] / sc.POW10[readers.decimals]).tolist() == [float(price) for price, _ in data[name]]
            assert msg["level_size"][side, :n].tolist() == [float(size) for _, size in data[name]]


@given(decimal_texts(), decimal_texts(10, 17), st.integers(0, 12))
@example("123456789.00000001", "0.000", 8)
@example("9007199254740991", "9007199254740993", 0)
@example("1000000000000", "1", 8)
@example("90071992547", "1", 9)
@example("0000000000000000001", "1", 3)
@settings(max_examples=600, deadline=None)
def test_decimals_are_read_exactly_or_declined(price, size, decimals):
    readers = Readers("binance_spot", decimals)
    frame = wire.depth("binance_spot", 1, 2, [(price, size)])
    if readers.agree(frame) == sc.DEPTH:
        msg = readers.fast["msg"][0]
        assert msg["level_units"][0, 0] / sc.POW10[decimals] == float(price)
        assert msg["level_size"][0, 0] == float(size)
    readers.agree(wire.trade("binance_spot", 5, price, size))
    readers.agree(wire.ticker("binance_spot", 5, price, size, size, price))


@pytest.mark.parametrize("capture", GENERATED, ids=str)
def test_cut_frames_are_declined_at_every_byte(capture):
    readers = Readers(capture.venue, _decimals(capture))
    for frame in _sampled(capture, 9_000):
        for end in range(len(frame)):
            assert readers.scan(frame[:end])[0] == sc.UNUSUAL
        assert readers.scan(frame + b"}")[0] == readers.scan(frame + frame)[0] == sc.UNUSUAL


_PROBE = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from tasks.venues import scan as sc

class Edge(bytes):
    def __getitem__(self, i):
        if not 0 <= i <= len(self):
            raise IndexError(f"byte {i} of {len(self)}: {bytes(self)[-60:]!r}")
        return 0 if i == len(self) else bytes.__getitem__(self, i)

msg = np.zeros(1, sc.MESSAGE)[0]
symbol = np.zeros(64, np.uint8)
symbol[:8] = [7, *b"BTCUSDT"]
n = 0
for line in sys.stdin.buffer:
    frame = bytes.fromhex(line.decode())
    for end in range(len(frame) + 1):
        sc.scan(Edge(frame[:end]), 0, 8, symbol, msg)
        n += 1
print(n)
"""


def test_scanner_never_looks_past_the_byte_behind_a_frame():
    # Uncompiled, so that each index can be watched; cut off at every byte, a frame ends everywhere it can.
    tricky = [
        b'{"e":"depthUpdate","m":true,"m":false,"x":null,"code":0,"error":1,"symbol":"BTCUSDT"}',
        b'{"data":{"data":{"X":"MARKET"}}}',
        b'{"lastUpdateId":12,"bids":[["1.0","2.0"]],"asks":[]}',
        b'{"s":"\xe5\xb8\x81","m":tru,"E":00}',
        b'{"e":"aggTrade","a":5,"stream":"x"}',
    ]
    marks = (b"@depth", b"@trade", b"@book")
    frames = tricky + [min((frame for _, frame in c.frames(100) if mark in frame), key=len) for c in GENERATED for mark in marks]
    root = Path(sc.__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], input="\n".join(frame.hex() for frame in frames), capture_output=True, text=True,
        cwd=root, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == sum(len(frame) + 1 for frame in frames)


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_one_wrong_byte_never_makes_the_scanner_differ_from_json(capture):
    rng, readers = random.Random(7), Readers(capture.venue, _decimals(capture))
    frames = _sampled(capture, 40_000)
    likely = b'"{}[],:.0159-+eE \\tfnubaTXpsm\x00\x7f\n'
    for _ in range(4000):
        frame = bytearray(rng.choice(frames))
        frame[rng.randrange(len(frame))] = rng.choice(likely) if rng.random() < 0.7 else rng.randrange(128)
        readers.agree(bytes(frame))
        at = rng.randrange(len(frame))
        if rng.random() < 0.5:
            readers.agree(bytes(frame[:at] + frame[at + 1 :]))


def _rewritten(rng, data):
    # The same message in another dress: order, white space, escapes, doubled or foreign keys.
    def pairs(obj):
        items = [(key, pairs(value) if isinstance(value, dict) else value) for key, value in obj.items()]
        if rng.random() < 0.5:
            rng.shuffle(items)
        if rng.random() < 0.3:
            items.append(rng.choice(items))
        if rng.random() < 0.3:
            values = (5, "7.5", True, None, [], [["1", "2"]], "BTCUSDT", -1, 1.5, {"e": 1})
            items.insert(rng.randrange(len(items) + 1), (rng.choice(items)[0], rng.choice(values)))
        if rng.random() < 0.3:
            keys = ("zz", "code", "data", "symbol", "result", "lastUpdateId", "bids", "é")
            items.insert(rng.randrange(len(items)), (rng.choice(keys), 1))
        return items

    def text(value):
        if isinstance(value, list) and value and isinstance(value[0], tuple):
            gap = rng.choice(("", "", " ", "\n\t"))
            return "{" + f",{gap}".join(f"{json.dumps(k)}{gap}:{text(v)}" for k, v in value) + gap + "}"
        out = json.dumps(value, separators=(",", ":"), ensure_ascii=rng.random() < 0.5)
        if rng.random() < 0.1:
            out = out.replace("T", "\\u0054")
        return out

    return rng.choice(("", "", " ")) + text(pairs(data)) + rng.choice(("", "", "\n"))


@pytest.mark.parametrize("capture", GENERATED, ids=str)
def test_other_dresses_of_a_message_read_alike(capture):
    rng, readers = random.Random(11), Readers(capture.venue, _decimals(capture))
    for _ in range(3):
        for frame in _sampled(capture, 60_000, seed=rng.random()):
            readers.agree(_rewritten(rng, json.loads(frame)).encode())


@given(odd_numbers(), st.sampled_from(("b", "B", "p", "q", "t", "u", "U", "E", "T", "pu", "level", "size")), st.booleans())
@settings(max_examples=500, deadline=None)
def test_odd_numbers_are_never_read_otherwise_than_by_json(number, key, bare):
    for venue in wire.VENUES:
        readers = Readers(venue, 2)
        for frame in (
            wire.depth(venue, 3, 4, [("5.25", "1.5")], [("6.25", "0.5")]),
            wire.trade(venue, 8),
            wire.ticker(venue, 9, "5.25", "1", "6.25", "2"),
            wire.trade(venue, 8, name="aggTrade"),
            wire.snapshot(venue, 4, [("5.25", "1.5")]),
        ):
            text = number if bare else json.dumps(number)
            if key in ("level", "size"):
                odd = frame.replace(b'"5.25"' if key == "level" else b'"1.5"', text.encode(), 1)
            else:
                data = json.loads(frame)
                inner = data.get("data", data)
                if key not in inner:
                    continue
                inner[key] = "@@"
                odd = json.dumps(data, separators=(",", ":")).encode().replace(b'"@@"', text.encode())
            readers.agree(odd)


def test_text_that_is_no_utf8_is_all_that_the_scanner_overlooks():
    readers = Readers("binance_spot")
    assert readers.scan(b'{"e":"x","note":"\xff"}')[0] == sc.NOTHING
    assert readers.json(b'{"e":"x","note":"\xff"}')[0] == sc.UNUSUAL
    assert readers.scan(wire.trade("binance_spot", 1).replace(b'"BTCUSDT"', b'"\xff"'))[1][-3] == 1  # of another symbol


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b'{"result":null,"id":312}', sc.NOTHING),
        (b'{"id":"a","result":null}', sc.NOTHING),
        (b'{"code":-1121,"msg":"Invalid symbol."}', sc.UNUSUAL),  # negative: the JSON path knows
        (b'{"code":0,"msg":"x"}', sc.REFUSED),
        (b'{"e":"serverShutdown","E":1770123456789}', sc.NOTHING),
        (b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}', sc.NOTHING),
        (b'{"stream":"btcusdt@depth5","data":{"lastUpdateId":7,"bids":[["1.0","1.0"]],"asks":[]}}', sc.NOTHING),
        (b'{"lastUpdateId":7,"bids":[["1.0","1.0"]],"asks":[]}', sc.SNAPSHOT),
        (b'{"lastUpdateId":7,"bids":[["1.0","1.0"]]}', sc.UNUSUAL),
        (b'{"lastUpdateId":007,"bids":[],"asks":[]}', sc.UNUSUAL),
        (b'{"lastUpdateId":7,"bids":[["1.0","1.0","x"]],"asks":[]}', sc.UNUSUAL),
        (b'{"lastUpdateId":7,"bids":[["0.0","1.0"]],"asks":[]}', sc.UNUSUAL),
        (b'{"lastUpdateId":7,"bids":["12"],"asks":[]}', sc.UNUSUAL),
        (b'{"e":"snapshot","lastUpdateId":7,"bids":[],"asks":[]}', sc.NOTHING),
        (b"{}", sc.UNUSUAL), (b"[]", sc.UNUSUAL), (b"", sc.UNUSUAL), (b"null", sc.UNUSUAL), (b"Websocket connected", sc.UNUSUAL),
    ],
)  # fmt: skip
def test_chatter_is_told_apart(frame, kind):
    readers = Readers("binance_spot", 1)
    assert readers.agree(frame) == kind


def test_levels_beyond_what_the_scanner_holds_are_declined():
    for n, kind in ((sc.MAX_LEVELS, sc.DEPTH), (sc.MAX_LEVELS + 1, sc.UNUSUAL)):
        frame = wire.depth("binance_usdm", 1, 2, [], [(f"{i}.5", "1") for i in range(1, n + 1)])
        readers = Readers("binance_usdm", 1)
        assert readers.agree(frame) == kind
        assert readers.json(frame)[1][-3] == n


def test_microseconds_are_declined_rather_than_taken_for_milliseconds():
    frame = wire.depth("binance_spot", 1, 2, ms=1_723_161_255_208_000)
    assert Readers("binance_spot").agree(frame) == sc.UNUSUAL
    assert Readers("binance_spot").json(frame)[0] == sc.UNUSUAL


def test_scan_reads_out_of_the_middle_of_a_buffer_and_says_where_it_ended():
    lines = b"\n".join([wire.trade("binance_spot", 5), wire.trade("binance_spot", 6), b""])
    msg, symbol = np.zeros(1, sc.MESSAGE)[0], new_book("BTCUSDT", False)[0]["symbol"][0]
    kind, end = sc.scan(lines, 0, 8, symbol, msg)
    assert (kind, lines[end], msg["trade_id"]) == (sc.TRADE, 10, 5)
    kind, end = sc.scan(lines, end + 1, 8, symbol, msg)
    assert (kind, end, msg["trade_id"]) == (sc.TRADE, len(lines) - 1, 6)
