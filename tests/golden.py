"""Run as a script by any interpreter: frames to books, features and scores; prints their SHA-256 as JSON.

    python golden.py CAPTURE VENUE SYMBOL MODEL

It needs what the kernels need and nothing else: numpy, numba, msgspec.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from models.scorer import Scorer
from tasks.features.catalogue import SETS, columns
from tasks.features.fold import Features
from tasks.venues.binance import Binance
from tasks.venues.events import BOOK, CHANGE, TRADE


def rows_of(frames, venue, raw_symbol):
    """Return books, trades and changes, as the adapter gives them."""
    adapter, found = Binance(venue, raw_symbol), {BOOK: [], TRADE: [], CHANGE: []}
    views = {BOOK: adapter.row, TRADE: adapter.trade, CHANGE: adapter.change}
    for receive_ns, frame in frames:
        for event in adapter.receive(frame, receive_ns):
            if event in found:
                found[event].append(views[event].copy())
    return [np.concatenate(found[event]) if found[event] else views[event][:0].copy() for event in (BOOK, TRADE, CHANGE)]


def folded(books, trades, changes, cuts):
    """Return the features of a stream folded in pieces, cut at the given event numbers."""
    features, out = Features(), []
    for low, high in zip([-1, *cuts], [*cuts, np.iinfo(np.int64).max], strict=True):
        part = [rows[(rows["event_seq"] > low) & (rows["event_seq"] <= high)] for rows in (books, trades, changes)]
        out.append(features.batch(*part)[1])
    return np.concatenate(out)


def hashes(books, matrix, model_text):
    """Return the hash of the books, of their features, and of the scores of these."""
    scores = Scorer(model_text).batch(matrix[:, columns(SETS["l2_core"])])
    whole = {"books": books, "features": matrix, "scores": scores}
    return {name: sha256(np.ascontiguousarray(value).tobytes()).hexdigest() for name, value in whole.items()}


def read(path):
    """Return the frames of a plain capture."""
    lines = Path(path).read_bytes().split(b"\n")
    return [(int(stamp), frame) for stamp, _, frame in (line.partition(b" ") for line in lines if line)]


if __name__ == "__main__":
    capture, venue, raw_symbol, model = sys.argv[1:]
    books, trades, changes = rows_of(read(capture), venue, raw_symbol)
    print(json.dumps(hashes(books, folded(books, trades, changes, []), Path(model).read_text())))
