"""Captures to test on: generated ones that are always there, and the real ones where they are."""

import gzip
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from tests import wire

SHARED = Path(os.environ.get("TIDEBOOK_SHARED") or Path(__file__).resolve().parents[2] / "shared")
STARTED_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Capture:
    """Frames of one instrument; `load` returns `(receive_ns, frame)` pairs.

    `checks` is how many books must be comparable with the venue's ticker, 0 where unknown.
    """

    name: str
    venue: str
    load: Callable[[], list[tuple[int, bytes]]]
    checks: int = 0
    symbol: str = ""

    @property
    def raw_symbol(self):
        return self.symbol or wire.RAW[self.venue]

    def frames(self, n_depth=None):
        """Return the frames, up to the given number of depth events."""
        frames = self.load()
        if n_depth is None:
            return frames
        for i, (_, frame) in enumerate(frames):
            n_depth -= b'"depthUpdate"' in frame
            if n_depth < 0:
                return frames[:i]
        return frames

    def __str__(self):
        return self.name


@lru_cache(maxsize=8)
def read(*paths):
    """Return the `(receive_ns, frame)` pairs of captured files."""
    out = []
    for path in paths:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for line in lines:
                stamp, _, frame = line.rstrip(b"\n").partition(b" ")
                out.append((int(stamp), frame))
    return out


@lru_cache(maxsize=8)
def generated(venue, n_depth=400, seed=0):
    """Return frames of a small random market: levels come and go, prices wander and now and then leap.

    Every change of the book has an update id; the ticker tells each change of the best, the
    depth stream tells batches of changes, and a snapshot falls into the middle of a batch.
    """
    rng = random.Random(f"{venue}{seed}")
    decimals, lot = {"binance_spot": (8, "{}.{:05d}000"), "binance_usdm": (2, "{}.{:03d}"), "binance_coinm": (1, "{}")}[venue]
    scale = {"binance_spot": 100, "binance_usdm": 10, "binance_coinm": 10}[venue]
    sides, frames = ({}, {}), []
    update_id, trade_id, ms, mid = 1_000_000, 500, STARTED_MS, 60_000 * scale

    def price(ticks):
        return f"{ticks // scale}.{ticks % scale * 10**decimals // scale:0{decimals}d}"

    def size(lots):
        return lot.format(lots // 1000, lots % 1000) if "." in lot else lot.format(lots)

    def best():
        (bid, bid_size), (ask, ask_size) = max(sides[0].items()), min(sides[1].items())
        return price(bid), size(bid_size), price(ask), size(ask_size)

    def change(batch):
        nonlocal update_id
        update_id += 1 if venue == "binance_spot" else rng.randint(1, 40)
        side = rng.randrange(2)
        away = rng.choice((rng.randint(1, 15), rng.randint(1, 200), rng.randint(1, 40_000)))
        ticks, lots = (mid - away if side == 0 else mid + away), rng.choice((0, rng.randint(1, 9000)))
        put(batch, side, ticks, lots)

    def put(batch, side, ticks, lots):
        batch[side].append([price(ticks), size(lots)])
        sides[side].pop(ticks, None)
        if lots:
            sides[side][ticks] = lots

    for away in range(1, 60):
        sides[0][mid - away * 3], sides[1][mid + away * 3] = away * 100, away * 90
    shown, previous = best(), update_id
    for n in range(n_depth):
        batch, first, ms = ([], []), None, ms + rng.choice((20, 50, 100))
        mid += rng.randint(-3, 3) if n % 60 else rng.choice((-12_000, 12_000, 30_000))
        for k in range(rng.randint(2, 30)):
            if n == 12 and k == 1:
                levels = [[(price(t), size(s)) for t, s in sorted(sides[i].items(), reverse=not i)] for i in range(2)]
                frames.append(wire.snapshot(venue, update_id, *levels, ms=ms))
            change(batch)
            for side, over in ((0, [t for t in sides[0] if t >= mid]), (1, [t for t in sides[1] if t <= mid])):
                for ticks in over:
                    put(batch, side, ticks, 0)
                if not sides[side]:
                    put(batch, side, mid - 5 if side == 0 else mid + 5, 777)
            first = first or update_id
            if best() != shown:
                shown = best()
                frames.append(wire.ticker(venue, update_id, *shown, ms=ms))
            if rng.random() < 0.1:
                trade_id += 1
                frames.append(wire.trade(venue, trade_id, price(mid), size(rng.randint(1, 900)), rng.random() < 0.5, ms=ms))
        frames.append(wire.depth(venue, first, update_id, *batch, previous=previous, ms=ms))
        previous = update_id
    return [((STARTED_MS + i) * 1_000_000, frame) for i, frame in enumerate(frames)]


def _real():
    folder = SHARED / "captures"
    for name, venue, checks in (
        ("binance_spot-btcusdt-20240808.gz", "binance_spot", 3449),
        ("binance_usdm-btcusdt-20240808.gz", "binance_usdm", 6545),
        ("binance_coinm-btcusd_perp-20240808.gz", "binance_coinm", 26807),
    ):
        if (folder / name).is_file():
            yield Capture(name.removesuffix(".gz"), venue, partial(read, folder / name), checks)


def _one_of_many(stream, snapshots, symbol):
    # One symbol's frames out of a recorded connection, its REST answer where it came.
    frames = [(stamp, frame) for stamp, frame in read(stream) if b'"%s"' % symbol.encode() in frame]
    for line in snapshots.read_text().splitlines():
        answer = json.loads(line)
        if f"symbol={symbol}&" in answer["url"]:
            frames.append((answer["receive_ns"], json.dumps(answer["body"], separators=(",", ":")).encode()))
    return sorted(frames)


def _thin():
    for venue, name, symbols in (
        ("binance_spot", "cryptofeed_4symbols_20211012", ("NKNUSDT", "BLZETH", "LRCBTC", "RUNEEUR")),
        ("binance_usdm", "cryptofeed_4symbols_20210722", ("SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT")),
    ):
        stream, snapshots = (SHARED / "fixtures" / venue / f"{name}_{part}" for part in ("ws.txt", "rest_depth.jsonl"))
        if stream.is_file() and snapshots.is_file():
            for symbol in symbols:
                yield Capture(f"{venue}-{symbol.lower()}", venue, partial(_one_of_many, stream, snapshots, symbol), symbol=symbol)


GENERATED = [Capture(f"generated-{venue}", venue, partial(generated, venue)) for venue in wire.VENUES]
CAPTURES = [*GENERATED, *_real()]
THIN = [GENERATED[0], *_thin()]
_SECOND_DAY = [SHARED / "captures" / f"binance_spot-btcusdt-2024080{day}.gz" for day in (8, 9)]
SPOT_SESSION = partial(read, *_SECOND_DAY) if all(path.is_file() for path in _SECOND_DAY) else partial(generated, "binance_spot", 2000)
