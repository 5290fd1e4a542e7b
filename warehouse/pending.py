"""Rows that wait in memory for the next commit, in the order of their `seq` and without a hole."""

import threading
from typing import Any

import numpy as np
import pyarrow as pa

from warehouse.columns import extra_columns, text_batch, to_batch
from warehouse.errors import RowTypeError, SequenceGapError, SessionSupersededError

_FIRST_ROWS = 256


class Order:
    """Which `seq` must come next in one table of one stream."""

    def __init__(self, venue: str, symbol: str, table: str, following: int) -> None:
        self.venue, self.symbol, self.table, self.following = venue, symbol, table, following
        self.session_id = ""
        self.end: int | None = None  # where a newer session took over the numbers

    def skip(self, first: int, n: int) -> int:
        """Return how many of n rows from `first` are there already, or say why they do not fit."""
        last = first + n - 1
        if self.end is not None and last >= self.end:
            raise SessionSupersededError(self.venue, self.symbol, self.table, self.session_id, self.end, max(first, self.end))
        if first > self.following:
            raise SequenceGapError(self.venue, self.symbol, self.table, self.following, first)
        return min(self.following - first, n)


class Records:
    """Packed rows waiting for the next commit, in a buffer that grows by doubling."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._lock = threading.Lock()
        self._dtype: np.dtype | None = None
        self._width = self._seq_at = 0
        self._words = self._spare = np.empty(0, np.int64)
        self._used = 0
        self._earlier: list[pa.RecordBatch] = []

    def append(self, rows: np.ndarray) -> int:
        """Copy rows and return how many were new."""
        with self._lock:
            if not isinstance(rows, np.ndarray) or rows.ndim != 1:
                raise RowTypeError(self.order.table, "a structured array of one dimension", type(rows).__name__)
            if rows.dtype is not self._dtype:
                self._accept(rows.dtype)
            n = rows.size
            if n == 0:
                return 0
            if not rows.flags.c_contiguous:
                rows = np.ascontiguousarray(rows)
            words = rows.view(np.int64)
            first = int(words[self._seq_at])
            if n > 1:
                self._check_run(words, first)
            if first != self.order.following or self.order.end is not None:
                known = self.order.skip(first, n)
                words = words[known * self._width :]
                n -= known
            end = self._used + words.size
            if end > self._words.size:
                grown = np.empty(max(2 * end, _FIRST_ROWS * self._width), np.int64)
                grown[: self._used] = self._words[: self._used]
                self._words = grown
            self._words[self._used : end] = words
            self._used = end
            self.order.following += n
            return n

    def take(self) -> list[pa.RecordBatch]:
        """Return and forget what was appended."""
        with self._lock:
            batches, self._earlier = self._earlier, []
            words, used, dtype = self._words, self._used, self._dtype
            self._words, self._spare, self._used = self._spare, words, 0
        if used and dtype is not None:
            batches.append(to_batch(self.order.table, words[:used].view(dtype)))
        return batches

    def _accept(self, dtype: np.dtype) -> None:
        if dtype != self._dtype:
            extra_columns(self.order.table, dtype)
            if self._used and self._dtype is not None:
                self._earlier.append(to_batch(self.order.table, self._words[: self._used].view(self._dtype)))
                self._used = 0
            self._width = dtype.itemsize // 8
            self._seq_at = dtype.fields["seq"][1] // 8  # type: ignore[index]
        self._dtype = dtype

    def _check_run(self, words: np.ndarray, first: int) -> None:
        seq = words[self._seq_at :: self._width]
        wrong = np.flatnonzero(np.diff(seq) != 1)
        if wrong.size:
            order = self.order
            raise SequenceGapError(order.venue, order.symbol, order.table, int(seq[wrong[0]]) + 1, int(seq[wrong[0] + 1]))


class Text:
    """Rows with text waiting for the next commit."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._lock = threading.Lock()
        self._batches: list[pa.RecordBatch] = []

    def append(self, rows: Any) -> int:
        """Copy rows and return how many were new."""
        batch = text_batch(self.order.table, rows)
        with self._lock:
            if batch.num_rows == 0:
                return 0
            seq = batch["seq"].to_numpy()
            wrong = np.flatnonzero(np.diff(seq) != 1)
            if wrong.size:
                order = self.order
                raise SequenceGapError(order.venue, order.symbol, order.table, int(seq[wrong[0]]) + 1, int(seq[wrong[0] + 1]))
            known = self.order.skip(int(seq[0]), batch.num_rows)
            if known < batch.num_rows:
                self._batches.append(batch.slice(known))
                self.order.following += batch.num_rows - known
            return batch.num_rows - known

    def take(self) -> list[pa.RecordBatch]:
        """Return and forget what was appended."""
        with self._lock:
            batches, self._batches = self._batches, []
        return batches
