"""The book as dictionaries and sorted lists: slow, obvious, and what every contestant must agree with."""

import hashlib
import json
import struct
from bisect import bisect_left, insort

from contest import LEVELS, Capture, Level


class Side:
    """One side of a book; `sign` is -1 for bids, so that the best price always sorts first."""

    def __init__(self, sign: int) -> None:
        self.sign, self.sizes, self.order = sign, {}, []

    def put(self, price: float, size: float) -> None:
        """Set a level, or take it away when its size is zero."""
        key = self.sign * price
        if size and key not in self.sizes:
            insort(self.order, key)
        if size:
            self.sizes[key] = size
        elif self.sizes.pop(key, None) is not None:
            del self.order[bisect_left(self.order, key)]

    def best(self, n: int) -> list[Level]:
        """Return the n best levels."""
        return [(self.sign * key, self.sizes[key]) for key in self.order[:n]]


def replay(capture: Capture, contract_usd: float = 0.0) -> dict[str, object]:
    """Return what a contestant's `check` must answer; sizes in base units where a contract's worth is given."""

    def in_base(level: Level) -> Level:
        price, size = level
        return (price, size * contract_usd / price) if contract_usd else level

    body = json.loads(capture.snapshot)
    last = body["lastUpdateId"] + (capture.venue == "binance_spot")  # spot drops an event that ends at the snapshot, futures keep it
    sides = {"b": Side(-1), "a": Side(1)}
    for name, rows in (("b", body["bids"]), ("a", body["asks"])):
        for price, size in rows:
            sides[name].put(float(price), float(size))
    digest, updates = hashlib.sha256(), 0
    for _, frame in capture.select("depth"):
        event = json.loads(frame)["data"]
        if event["u"] < last:
            continue
        for name, side in sides.items():
            for price, size in event[name]:
                side.put(float(price), float(size))
        updates += 1
        digest.update(struct.pack("<4d", *in_base(sides["b"].best(1)[0]), *in_base(sides["a"].best(1)[0])))
    bids, asks = ([list(in_base(level)) for level in sides[name].best(LEVELS)] for name in ("b", "a"))
    return {"updates": updates, "quotes_sha256": digest.hexdigest(), "bids": bids, "asks": asks}
