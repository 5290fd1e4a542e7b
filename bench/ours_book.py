"""tidebook as a contestant: `Binance.receive` a frame, the 20-level row copied out after each book."""

import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "peers")]

from contest import Capture, Frame, Level, Quote, main  # noqa: E402

from tasks.venues.binance import Binance  # noqa: E402
from tasks.venues.events import BOOK  # noqa: E402

ROWS = 4096  # rows copied out are kept in a ring, as a writer would batch them


class Ours:
    """The adapter that live and replay use, one call a frame; all checks on."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.begin()
        self.rows = np.zeros(ROWS, self.stream.row.dtype)
        self.raw_rows = self.rows.view(np.uint8).reshape(ROWS, -1)  # whole rows are copied faster as bytes

    def prepare(self, frame: bytes) -> bytes:
        return frame

    def begin(self) -> None:
        self.stream = Binance(self.capture.venue, self.capture.raw_symbol)
        self.raw_row = self.stream.row.view(np.uint8)
        for _ in self.stream.receive(self.capture.snapshot, self.capture.snapshot_ns):
            pass
        self.count = 0

    def feed(self, frames: list[Frame]) -> float:
        receive, row, rows, count = self.stream.receive, self.raw_row, self.raw_rows, 0
        start = time.process_time()
        for receive_ns, frame in frames:
            for event in receive(frame, receive_ns):
                if event == BOOK:
                    rows[count % ROWS] = row
                    count += 1
        took = time.process_time() - start
        self.count += count
        return took

    def feed_one(self, frame: Frame) -> None:
        for event in self.stream.receive(frame[1], frame[0]):
            if event == BOOK:
                self.raw_rows[self.count % ROWS] = self.raw_row
                self.count += 1

    def best(self) -> Quote:
        row = self.rows[(self.count - 1) % ROWS]
        return row["bid_px"][0], row["bid_sz"][0], row["ask_px"][0], row["ask_sz"][0]

    def top(self) -> tuple[list[Level], list[Level]]:
        row = self.rows[(self.count - 1) % ROWS]
        bids, asks = (zip(row[f"{side}_px"].tolist(), row[f"{side}_sz"].tolist(), strict=True) for side in ("bid", "ask"))
        return list(bids), list(asks)

    def updates(self) -> int:
        return self.count


if __name__ == "__main__":
    main(Ours)
