"""Rows whose every bit follows from their `seq`, so that any reader can tell a lost, doubled or altered one."""

import numpy as np

from warehouse.schema import row_dtype

STREAM = ("binance_usdm", "BTC-USDT-PERP")
NOON_NS = 1_767_268_800_000_000_000  # 2026-01-01 12:00 UTC
DAY_NS = 86_400_000_000_000


def rows_of(table, first, n, start_ns=NOON_NS, step_ns=1_000_000):
    """Return n rows from `seq` first; `event_seq` is twice it, prices carry NaN, minus zero and long fractions."""
    out = np.zeros(n, row_dtype(table))
    seq = np.arange(first, first + n)
    for name in out.dtype.names:
        if out.dtype[name].base == np.float64:
            shape = (n, *out.dtype[name].shape)
            depth = np.arange(np.prod(shape[1:], dtype=int)).reshape(shape[1:])
            out[name] = np.sqrt(seq + 2.0).reshape(n, *([1] * len(shape[1:]))) + depth
        else:
            out[name] = seq * 7 - 3
    out["seq"] = seq
    if "event_seq" in out.dtype.names:
        out["event_seq"] = seq * 2
    for name, offset in (("exchange_ns", 0), ("receive_ns", 5_000_000)):
        if name in out.dtype.names:
            out[name] = start_ns + seq * step_ns + offset
    if table == "l2_snapshots":
        out["bid_px"][:, -1] = np.nan
        out["ask_sz"][:, -1] = -0.0
    return out


def text_rows(first, n, start_ns=NOON_NS):
    """Return n rows of `unreadable`."""
    return [
        {"receive_ns": start_ns + seq, "seq": seq, "event_seq": seq * 2, "reason": f"row {seq}", "frame": "{\u00e9" * (seq % 3)}
        for seq in range(first, first + n)
    ]


def write(lake, table, rows, session_id="only", stream=STREAM, seal=True):
    """Append, commit and (by default) seal rows of one table in a writer of their own."""
    writer = lake.writer()
    writer.session(*stream, session_id)
    writer.append(table, *stream, rows)
    writer.commit()
    if seal:
        writer.close()
    return writer
