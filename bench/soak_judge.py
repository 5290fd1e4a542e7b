"""Hold a soaked lake against the ledger of the venues: what is wrong, what is missing, how late rows were, what memory was used."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from simulator import ledger  # noqa: E402
from simulator.listings import raw_symbols  # noqa: E402
from tasks.venues.directory import canonical_symbol  # noqa: E402
from warehouse.lake import Lake  # noqa: E402
from warehouse.quality import joined  # noqa: E402

# Trades of these bear no running number: one that is lost shows nowhere.  Each that is missing must be one that the simulator lost.
UNNUMBERED = ("bybit_linear", "hyperliquid")
# Books without numbers: Hyperliquid's are each whole, and Kraken's checksum is of the book after an update, which may be as right
# without the lost one.  A lost one makes the book older until the next; it must be one that the simulator lost.
UNSEEN = ("hyperliquid", "kraken")
MARGIN_NS = 1_500_000_000  # of exchange time around a doubtful stretch that is not compared
SLIP_NS = 500_000_000  # between the time of a message and that of the fault that befell it
# A changed digit shows in a checksum; elsewhere the venue's own book tells at its next question, or the one after where an answer failed.
SHOWS_DIGITS = ("kraken",)
NEAR_NS = 6_000_000_000  # a book is looked for so far around a row with a wrong time
QUESTION_S = 15.0  # a question, the five seconds until it is asked again, and both answers on a busy machine
DOUBTS = ("quarantined", "gap", "stale", "crossed", "start", "resync")
WITNESSED = ("suspect", "witness")  # stretches that a second witness marked afterwards
HIDDEN = ("marked_books", "healed_books", "misdated_books", "spoilt_trades")  # what no message can show
Spans = list[tuple[int, int]]


def longest_s(witness_s: float) -> float:
    """Return for how long a wrong book may pass for a good one, where no message shows what is wrong: two turns of the witness.

    Examples
    --------
    >>> longest_s(300.0)
    630.0
    """
    return 2.0 * (witness_s + QUESTION_S)


def good_stretches(lake: Lake, venue: str, symbol: str, doubted: tuple[str, ...] = DOUBTS + WITNESSED) -> Spans:
    """Return the stretches of exchange time that the lake calls good, cut by a margin at both ends."""
    told = lake.sql(
        f"SELECT start_ns, end_ns FROM coverage WHERE venue = '{venue}' AND symbol = '{symbol}' AND state = 0 ORDER BY start_ns"
    ).to_pylist()
    doubts = lake.sql(
        f"SELECT start_ns, end_ns FROM quality WHERE venue = '{venue}' AND symbol = '{symbol}' AND kind IN {doubted}"
    ).to_pylist()
    out = []
    starts, ends = joined((row["start_ns"], row["end_ns"]) for row in told)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        pieces = [(start, end)]
        for doubt in doubts:
            a, b = doubt["start_ns"], doubt["end_ns"]
            pieces = [piece for x, y in pieces for piece in ((x, min(y, a)), (max(x, b), y)) if piece[0] < piece[1]]
        out += [(x + MARGIN_NS, y - MARGIN_NS) for x, y in pieces if y - x > 2 * MARGIN_NS]
    return out


def lost(folder: Path, venue: str, raw: str, trades: bool) -> Spans:
    """Return when the simulator kept messages of a stream's trades, or of its books, from us: a message, or a silence."""
    out = []
    for fault in ledger.faults(folder / "ledger", venue):
        if fault["raw_symbol"] != raw or ("trade" in fault["stream"].lower()) != trades:
            continue
        if fault["fault"] in ("drop", "truncate", "reorder"):
            out.append((fault["at_ns"] - SLIP_NS, fault["at_ns"] + SLIP_NS))
        elif fault["fault"] == "silent" and trades:
            out.append((fault["at_ns"] - SLIP_NS, fault["at_ns"] + int(float(fault["detail"].split()[0]) * 1e9) + SLIP_NS))
    return out


def digits(folder: Path, venue: str, raw: str) -> tuple[np.ndarray, Spans]:
    """Return when digits of a stream were changed: on our clock, and as stretches of exchange time."""
    told = [f for f in ledger.faults(folder / "ledger", venue) if f["fault"] == "corrupt" and f["raw_symbol"] in (raw, "")]
    return np.sort([f["wall_ns"] for f in told]).astype(np.int64), [(f["at_ns"] - SLIP_NS, f["at_ns"] + SLIP_NS) for f in told]


def _runs(part: np.ndarray, same: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the rows of each run of wrong ones, and when the next right one came."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], same, [True]]).astype(np.int8)))
    for first, end in edges.reshape(-1, 2):
        yield part[first:end], int(part["receive_ns"][min(end, part.size - 1)])


def _judge_wrong(found: Counter, run: np.ndarray, right_ns: int, good: Spans, changed: np.ndarray, most_ns: int) -> None:
    # Wrong rows must follow a changed digit and last no longer than the witness needs; those that it marked are told apart.
    first_ns = int(run["receive_ns"][0])
    at = int(np.searchsorted(changed, first_ns + SLIP_NS)) - 1
    if at < 0 or first_ns - changed[at] > most_ns or right_ns - first_ns > most_ns:
        found["wrong_books"] += run.size
        return
    healed = sum(any(a <= ns < b for a, b in good) for ns in run["exchange_ns"].tolist())
    found["healed_books"] += healed
    found["marked_books"] += run.size - healed
    found["longest_ms"] = max(found["longest_ms"], (right_ns - first_ns) // 1_000_000)


def _is_misdated(row: np.void, truth: dict, changed: np.ndarray, depth: int) -> bool:
    # A changed digit may be one of the time, of which no checksum tells: then the levels are those of a book about then.
    if not (np.abs(changed - row["receive_ns"]) < 2 * SLIP_NS).any():
        return False
    near = np.flatnonzero(np.abs(truth["exchange_ns"] - row["receive_ns"]) < NEAR_NS)
    return any(_same(row, truth, i, depth) for i in near.tolist())


def compare(folder: Path, venue: str, raw: str, witness_s: float) -> Counter:
    """Hold one stream's rows against the ledger; return counts of what was found."""
    lake, symbol = Lake(folder / "lake"), canonical_symbol(venue, raw)
    truth, found = ledger.read(folder / "ledger", venue, raw), Counter()
    books, trades = lake.rows("l2_snapshots", venue, symbol), lake.rows("trades", venue, symbol)
    found["rows"], found["seq_holes"] = books.size, int((np.diff(books["seq"]) != 1).sum() + (np.diff(trades["seq"]) != 1).sum())
    depth = truth["bids"].shape[1]
    by_ns: dict[int, list[int]] = {}
    for i, ns in enumerate(truth["exchange_ns"].tolist()):
        by_ns.setdefault(ns, []).append(i)
    good, missing = good_stretches(lake, venue, symbol), []
    found["good_ms"] = sum(b - a for a, b in good) // 1_000_000
    changed, slips = digits(folder, venue, raw)
    most_ns = -1 if venue in SHOWS_DIGITS else int(longest_s(witness_s) * 1e9)
    for start, end in good_stretches(lake, venue, symbol, DOUBTS):  # also what a witness doubts: that is how long it was wrong
        part = books[(books["exchange_ns"] >= start) & (books["exchange_ns"] < end)]
        found["books_compared"] += part.size
        same = [any(_same(row, truth, i, depth) for i in by_ns.get(int(row["exchange_ns"]), ())) for row in part]
        for i in [i for i, is_same in enumerate(same) if not is_same]:
            same[i] = _is_misdated(part[i], truth, changed, depth)
            found["misdated_books"] += same[i]
        for run, right_ns in _runs(part, np.array(same, bool)):
            _judge_wrong(found, run, right_ns, good, changed, most_ns)
    for start, end in good:
        part = books[(books["exchange_ns"] >= start) & (books["exchange_ns"] < end)]
        held = set(part["exchange_ns"].tolist())
        due = truth["exchange_ns"][(truth["exchange_ns"] >= start) & (truth["exchange_ns"] < end)]
        missing += [ns for ns in due.tolist() if ns not in held]
    found["missing_books"] = len(missing)
    # One lost message is one book: each excuses one that is missing.
    excuses = (lost(folder, venue, raw, trades=False) if venue in UNSEEN else []) + slips  # a changed digit may be one of the time
    found["excused_books"] = min(len(missing), sum(any(a <= ns <= b for ns in missing) for a, b in excuses))
    _trades(
        found,
        truth,
        trades,
        good,
        (lost(folder, venue, raw, trades=True) if venue in UNNUMBERED else []) + slips,
        changed,
    )
    return found


def _trades(found: Counter, truth: dict, trades: np.ndarray, good: Spans, excuses: Spans, changed: np.ndarray) -> None:
    if not trades.size:
        return
    told = dict(zip(truth["trade_id"].tolist(), zip(truth["price"], truth["size"], truth["aggressor"], strict=True), strict=True))
    held = set(trades["trade_id"].tolist())
    # A hole in the numbers shows with the trade behind it: of what came before the first and behind the last nothing is claimed.
    first_ns, last_ns = int(trades["exchange_ns"].min()), int(trades["exchange_ns"].max())
    for start, end in good:
        own = trades[(trades["exchange_ns"] >= start) & (trades["exchange_ns"] < end) & (trades["backfill"] == 0)]
        for row in own:
            known = told.get(int(row["trade_id"]))
            same = known is not None and np.allclose([row["price"], row["size"], row["aggressor"]], known, rtol=1e-12)
            if not same:  # one row: nothing comes later that could tell of a changed digit in it
                spoilt = bool((np.abs(changed - row["receive_ns"]) < 2 * SLIP_NS).any())
                found["spoilt_trades" if spoilt else "wrong_trades"] += 1
        found["doubled_trades"] += own.size - np.unique(own["trade_id"]).size
        found["trades_compared"] += own.size
        inside = (truth["trade_ns"] >= max(start, first_ns)) & (truth["trade_ns"] < min(end, last_ns))
        due = zip(truth["trade_id"][inside].tolist(), truth["trade_ns"][inside].tolist(), strict=True)
        for ns in [ns for number, ns in due if number not in held]:
            found["missing_trades"] += 1
            found["excused_trades"] += any(a <= ns <= b for a, b in excuses)


def _same(row: np.void, truth: dict, i: int, depth: int) -> bool:
    return all(
        np.allclose(row[f"{side}_px"][:depth], truth[f"{side}s"][i], rtol=1e-12, equal_nan=True)
        and np.allclose(row[f"{side}_sz"][:depth], truth[f"{side}_sizes"][i], rtol=1e-9)
        for side in ("bid", "ask")
    )


def lateness(folder: Path, venue: str, raws: list[str], aside: Spans = []) -> np.ndarray:  # noqa: B006
    """Return seconds from each row's receipt to the commit that acknowledged it, leaving rows received in `aside` out."""
    done = np.array([int(row[0]) for row in csv.reader((folder / f"commits-{venue}.csv").open())])
    lake = Lake(folder / "lake")
    stamps = np.concatenate([lake.rows("l2_snapshots", venue, canonical_symbol(venue, raw))["receive_ns"] for raw in raws])
    for begin, end in aside:
        stamps = stamps[(stamps < begin) | (stamps > end)]
    at = np.searchsorted(done, stamps + 20_000_000)  # a commit that had begun before does not count
    known = at < done.size
    return (done[at[known]] - stamps[known]) / 1e9


def memory(folder: Path) -> dict[int, tuple[float, float]]:
    """Return megabytes of each recorder at a third of its life and at its end, by process."""
    out: dict[int, list[float]] = {}
    for _, pid, kb in csv.reader((folder / "memory.csv").open()):
        out.setdefault(int(pid), []).append(int(kb) / 1024)
    return {
        pid: (float(np.median(mb[len(mb) // 3 : len(mb) // 3 + 5])), float(np.median(mb[-5:]))) for pid, mb in out.items() if len(mb) > 12
    }


def skew(folder: Path, venues: tuple[str, ...], symbols: int, skew_ms: float) -> list[str]:
    """Print by how much each venue's clock was found to be off; return where that is not what the simulator set."""
    problems = []
    for venue in venues:
        lake = Lake(folder / "lake")
        told = [lake.rows("stream_minutes", venue, canonical_symbol(venue, raw))["offset_ms"] for raw in raw_symbols(venue, symbols)]
        found = float(np.nanmedian(np.concatenate(told)))
        print(f"clock of {venue}: {found:+.0f} ms, set to {skew_ms:+.0f} ms")
        if not abs(found - skew_ms) < SLIP_NS / 2e6:
            problems.append(f"{venue}: its clock was found to be off by {found:+.0f} ms, it was by {skew_ms:+.0f} ms")
    return problems


def full_disk(folder: Path) -> tuple[Spans, list[str]]:
    """Return when the disk was full, and what is wrong with that: it never was, or nobody noticed."""
    at = folder / "full.json"
    if not at.exists():
        return [], []
    told = json.loads(at.read_text())
    refused = sum(sum(json.loads(path.read_text()).values()) for path in folder.glob("refused-*.json"))
    print(f"full disk, by {told['by']}: {refused} commits and seals were put off")
    return [tuple(told["span_ns"])], [] if refused else ["the disk was made full and no commit was refused"]


def _tell_digits(folder: Path, hidden: dict[str, Counter], witness_s: float) -> None:
    names, widths = HIDDEN, (8, 8, 10, 8)
    heads = "".join(f"{name:>{width}}" for name, width in zip(("marked", "healed", "misdated", "trades"), widths, strict=True))
    print(f"\na changed digit   {'venue':<18}{'changed':>8}{heads}{'longest s':>11}")
    for venue, of in hidden.items():
        changed = sum(entry["fault"] == "corrupt" for entry in ledger.faults(folder / "ledger", venue))
        told = "".join(f"{of[name]:>{width}}" for name, width in zip(names, widths, strict=True))
        print(f"                  {venue:<18}{changed:>8}{told}{of['longest_ms'] / 1e3:>11.2f}")
    print("marked: wrong books that a witness marked afterwards; healed: that were right again before its next question;")
    print("misdated, trades: rows whose own time, or trade, had a changed digit: nothing comes later that could tell;")
    print(f"longest: from a wrong book to a right one; none may last {longest_s(witness_s):.0f} s\n")


def judge(folder: Path, venues: tuple[str, ...], symbols: int, witness_s: float = 30.0, skew_ms: float = 0.0) -> list[str]:
    """Print what was found stream by stream; return what is wrong."""
    problems, seen, hidden = [], Counter(), {venue: Counter() for venue in venues}
    print(f"\n{'stream':<34}{'rows':>8}{'good s':>8}{'books':>8}{'wrong':>6}{'missing':>8}{'trades':>8}{'wrong':>6}{'missing':>8}")
    for venue in venues:
        seen.update(entry["fault"] for entry in ledger.faults(folder / "ledger", venue))
        for raw in raw_symbols(venue, symbols):
            found = compare(folder, venue, raw, witness_s)
            longest = max(hidden[venue].pop("longest_ms", 0), found["longest_ms"])
            hidden[venue] += Counter({name: found[name] for name in HIDDEN})
            hidden[venue]["longest_ms"] = longest
            named = ("books_compared", "wrong_books", "missing_books", "trades_compared", "wrong_trades", "missing_trades")
            told = "".join(f"{found[name]:>{width}}" for name, width in zip(named, (8, 6, 8, 8, 6, 8), strict=True))
            print(f"{venue + ' ' + raw:<34}{found['rows']:>8}{found['good_ms'] // 1000:>8}{told}")
            found["missing_books"] -= found["excused_books"]
            found["missing_trades"] -= found["excused_trades"]
            bad = ("wrong_books", "missing_books", "wrong_trades", "missing_trades", "doubled_trades", "seq_holes")
            problems += [f"{venue} {raw}: {found[name]} {name}" for name in bad if found[name]]
            if not found["books_compared"]:
                problems.append(f"{venue} {raw}: nothing was good for long enough to compare")
    print("\nfaults: " + ", ".join(f"{name} {n}" for name, n in sorted(seen.items())))
    _tell_digits(folder, hidden, witness_s)
    full, unseen = full_disk(folder)
    problems += unseen + skew(folder, venues, symbols, skew_ms)
    for what, aside in (("", []), (", but for rows that came while the disk was full", full)):
        late = np.concatenate([lateness(folder, venue, list(raw_symbols(venue, symbols)), aside) for venue in venues])
        print(f"receive to lake{what}: median {np.median(late):.2f} s, p99 {np.percentile(late, 99):.2f} s")
    for pid, (early, last) in memory(folder).items():
        print(f"memory of recorder {pid}: {early:.0f} MB after a third, {last:.0f} MB at the end")
    return problems
