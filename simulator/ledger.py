"""What the venues truly published, on disk: the book after each update, each trade, each fault.

    <root>/<venue>/<symbol>.json     grid and depth of the market
    <root>/<venue>/<symbol>.books    blocks of book rows, appended
    <root>/<venue>/<symbol>.trades   blocks of trades, appended
    <root>/<venue>/faults.jsonl      what went wrong, when, to which connection and stream

A block is its length and shape, then zstd over the columns' differences: some 60 bytes a book of 20 levels a
side.  A cut last block is what a kill leaves, and is not read.
"""

import json
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np
import zstandard

from simulator.desk import Desk, Trade
from simulator.instruments import Instrument

DEPTH = 20
_HEAD = struct.Struct("<III")  # bytes, rows, columns
_ROWS = 512


class _Blocks:
    # Rows of whole numbers, appended to a file some hundreds at a time.
    def __init__(self, path: Path, columns: int):
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self._rows = np.zeros((_ROWS, columns), np.int64)
        self._n = 0
        self._packer = zstandard.ZstdCompressor(level=1)

    def next(self) -> np.ndarray:
        if self._n == _ROWS:
            self.flush()
        self._n += 1
        return self._rows[self._n - 1]

    def flush(self) -> None:
        if self._n:
            rows = self._rows[: self._n]
            steps = np.diff(rows, axis=0, prepend=np.zeros((1, rows.shape[1]), np.int64))
            body = self._packer.compress(np.ascontiguousarray(steps.T).tobytes())
            self._file.write(_HEAD.pack(len(body), *rows.shape) + body)
            self._n = 0

    def close(self) -> None:
        self.flush()
        self._file.close()


class Ledger:
    """The ledger of one venue.

    Parameters
    ----------
    root : Path or str
        Folder of all venues; files of an earlier run there are continued.
    venue : str
    """

    def __init__(self, root: Path | str, venue: str):
        self.folder = Path(root) / venue
        self.folder.mkdir(parents=True, exist_ok=True)
        self._books: dict[str, _Blocks] = {}
        self._trades: dict[str, _Blocks] = {}
        self._depth: dict[str, int] = {}
        self._faults = (self.folder / "faults.jsonl").open("a", encoding="utf-8")

    def open(self, instrument: Instrument, depth: int = DEPTH) -> None:
        """Begin a market; `depth` is how many levels a side its stream shows, 20 at most."""
        name = file_name(instrument.raw_symbol)
        told = {
            "venue": instrument.venue, "raw_symbol": instrument.raw_symbol, "depth": depth, "price_decimals": instrument.price_decimals,
            "size_decimals": instrument.size_decimals, "contract_usd": instrument.contract_usd, "contract_base": instrument.contract_base,
        }  # fmt: skip
        (self.folder / f"{name}.json").write_text(json.dumps(told))
        self._depth[instrument.raw_symbol] = depth
        self._books[instrument.raw_symbol] = _Blocks(self.folder / f"{name}.books", 2 + 4 * depth)
        self._trades[instrument.raw_symbol] = _Blocks(self.folder / f"{name}.trades", 5)

    def book(self, desk: Desk, seq: int, exchange_ns: int) -> None:
        """Write the best levels of now as those behind update `seq`."""
        symbol = desk.raw_symbol
        depth = self._depth[symbol]
        row = self._books[symbol].next()
        row[0], row[1], row[2:] = seq, exchange_ns, 0
        at = 2
        for side in desk.top(depth):
            row[at : at + len(side)] = side[:, 0]
            row[at + depth : at + depth + len(side)] = side[:, 1]
            at += 2 * depth

    def trade(self, desk: Desk, trade: Trade, stored_id: int) -> None:
        """Write a trade under the number that a reader of the stream stores."""
        self._trades[desk.raw_symbol].next()[:] = stored_id, trade.exchange_ns, trade.tick, trade.units, trade.aggressor

    def fault(self, told: dict[str, Any]) -> None:
        """Write what went wrong."""
        self._faults.write(json.dumps(told) + "\n")

    def flush(self) -> None:
        """Bring what was written so far to the files."""
        for blocks in (*self._books.values(), *self._trades.values()):
            blocks.flush()
        self._faults.flush()

    def close(self) -> None:
        """Write the rest and close the files."""
        for blocks in (*self._books.values(), *self._trades.values()):
            blocks.close()
        self._faults.close()


def file_name(raw_symbol: str) -> str:
    """Return a symbol as a file name.

    Examples
    --------
    >>> file_name("BTC/USD")
    'BTC_USD'
    """
    return raw_symbol.replace("/", "_")


def read(root: Path | str, venue: str, raw_symbol: str) -> dict[str, np.ndarray]:
    """Return what a ledger holds of a market, in the lake's units.

    Returns
    -------
    dict of str to ndarray
        `seq` (0 where the venue has no number, and from one again after a restart: match on time as well),
        `exchange_ns` (int64), and `bids`, `bid_sizes`, `asks`, `ask_sizes` of shape (n, depth): prices in
        quote units, sizes in base units, contracts converted at the level's price where they stand for quote
        units, 0 behind the last level.  `trade_id`, `trade_ns`, `price`, `size`, `aggressor` of the trades.
    """
    path = Path(root) / venue / file_name(raw_symbol)
    told = json.loads(path.with_suffix(".json").read_text())
    books, trades = (_blocks(path.with_suffix(ending)) for ending in (".books", ".trades"))
    depth, price_unit, size_unit = told["depth"], 10 ** told["price_decimals"], 10 ** told["size_decimals"]

    def sizes(units: np.ndarray, prices: np.ndarray) -> np.ndarray:
        amount = units / size_unit
        if told["contract_usd"]:
            amount = np.where(units > 0, amount * told["contract_usd"] / prices, 0.0)
        return amount * (told["contract_base"] or 1.0)

    found = {"seq": books[:, 0], "exchange_ns": books[:, 1]} if books.size else {"seq": trades[:0, 0], "exchange_ns": trades[:0, 0]}
    for side, at in (("bid", 2), ("ask", 2 + 2 * depth)):
        ticks = books[:, at : at + depth]
        prices = np.where(ticks > 0, ticks / price_unit, np.nan)
        found |= {f"{side}s": prices, f"{side}_sizes": sizes(books[:, at + depth : at + 2 * depth], prices)}
    price = trades[:, 2] / price_unit
    return found | {
        "trade_id": trades[:, 0], "trade_ns": trades[:, 1], "price": price, "size": sizes(trades[:, 3], price), "aggressor": trades[:, 4],
    }  # fmt: skip


def faults(root: Path | str, venue: str) -> list[dict[str, Any]]:
    """Return what went wrong at a venue, in order."""
    lines = (Path(root) / venue / "faults.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _blocks(path: Path) -> np.ndarray:
    raw, at, found = path.read_bytes(), 0, []
    unpacker = zstandard.ZstdDecompressor()
    while at + _HEAD.size <= len(raw):
        size, rows, columns = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        if at + size > len(raw):
            break
        steps = np.frombuffer(unpacker.decompress(raw[at : at + size]), np.int64).reshape(columns, rows)
        found.append(np.cumsum(steps, axis=1).T)
        at += size
    return np.concatenate(found) if found else np.zeros((0, 2 + 4 * DEPTH), np.int64)
