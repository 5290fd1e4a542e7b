"""JSON decoding alone, no book: what any reader that goes through a JSON library pays at least.

The library is named by the environment variable CONTEST_JSON: json, orjson, msgspec (plain
objects) or msgspec-typed (structs, prices and sizes as floats).
"""

import importlib
import os
import time
from collections.abc import Callable

from contest import Capture, Frame, main


def decoder(name: str) -> Callable[[bytes], object]:
    """Return the function that turns a frame into objects."""
    if name in ("json", "orjson"):
        return importlib.import_module(name).loads
    import msgspec

    if name == "msgspec":
        return msgspec.json.Decoder().decode
    # One union of structs, told apart by the event's name, numbers read out of their strings.
    level = tuple[float, float]
    fields = {
        "depthUpdate": {"U": int, "u": int, "b": list[level], "a": list[level]},
        "bookTicker": {"u": int, "b": float, "B": float, "a": float, "A": float},
        "trade": {"t": int, "p": float, "q": float, "m": bool},
    }
    shared = [("s", str), ("E", int, 0), ("T", int, 0), ("pu", int, 0)]
    structs = [
        msgspec.defstruct(event, [*columns.items(), *shared], tag_field="e", tag=event, kw_only=True) for event, columns in fields.items()
    ]
    wrapper = msgspec.defstruct("Wrapper", [("stream", str), ("data", structs[0] | structs[1] | structs[2])])
    return msgspec.json.Decoder(wrapper, strict=False).decode


class Json:
    """A decoder in the clothes of a contestant: it has no book to check."""

    def __init__(self, capture: Capture) -> None:
        self.decode = decoder(os.environ["CONTEST_JSON"])

    def prepare(self, frame: bytes) -> bytes:
        return frame

    def begin(self) -> None:
        self.count = 0

    def feed(self, frames: list[Frame]) -> float:
        decode = self.decode
        start = time.process_time()
        for _, frame in frames:
            decode(frame)
        return time.process_time() - start

    def feed_one(self, frame: Frame) -> None:
        self.decode(frame[1])

    def updates(self) -> int:
        return 0


if __name__ == "__main__":
    main(Json)
