"""Section: frames to an updated book with 20 levels read out, against the peers, interleaved on one core."""

from pathlib import Path

import naive
from arena import Player, interleave, start_all
from contest import load
from results import Result

from tasks.venues.binance import contract_usd

TITLE = "Frames to a book with 20 levels read out, one core"
TIMES_CRYPTOFEED = {"depth": 25.0, "all": 10.0}


def _verdict(player: Player, which: str, right: list[dict]) -> str:
    # The empty string, or what is wrong with the player's book.
    found = player.ask(f"check {which}")
    if not any(found["quotes_sha256"] == want["quotes_sha256"] and found["updates"] == want["updates"] for want in right):
        return f"WRONG: the best quotes of its {found['updates']:,} updates are not the naive book's"
    if not any(found["bids"] == want["bids"] and found["asks"] == want["asks"] for want in right):
        return "WRONG: its last 20 levels are not the naive book's"
    return ""


def measure(core: int, venue: str, files: list[Path], rounds: int) -> list[Result]:
    """Return the lines of ours, the peers and the decoders; a peer with a wrong book is shown without a ratio."""
    capture = load([str(path) for path in files], venue)
    units = {0.0, contract_usd(venue, capture.raw_symbol)}  # peers leave sizes in contracts
    right = [naive.replay(capture, unit) for unit in sorted(units)]
    books, decoders, missing = start_all(core, venue, files)
    wrong = {(player.name, which): _verdict(player, which, right) for player in books for which in ("depth", "all")}
    interleave([*books, *decoders], rounds)
    results = []
    for which in ("depth", "all"):
        n = len(capture.select(which))
        rival = next((player for player in books if player.name == "cryptofeed"), None)
        results += [_line(player, books[0], rival, which, n, wrong.get((player.name, which))) for player in [*books, *decoders]]
        results += [Result(TITLE, peer, which.upper(), float("nan"), "", note=why) for peer, why in missing.items()]
    for player in [*books, *decoders]:
        player.close()
    return results


def _line(player: Player, ours: Player, rival: Player | None, which: str, n: int, wrong: str | None) -> Result:
    # `wrong` is None for a decoder, which has no book.
    median, own = player.median_us(which), ours.median_us(which)
    notes, budget, kept = [], "", None
    if wrong is not None:
        tail = player.ask(f"quantiles {which}")
        notes = [f"p50 {tail['p50_us']:.1f}, p99 {tail['p99_us']:.1f} us", wrong or "book checked"]
    if player.name == "nautilus":
        notes.append("no levels read out, no gap check")
    if player is ours and rival is not None:
        # The worse of two readings: medians, and the best round of each, which noise flatters least.
        times = min(rival.median_us(which) / own, rival.best_us(which) / ours.best_us(which))
        budget, kept = f"{times:.1f}x cryptofeed, >= {TIMES_CRYPTOFEED[which]:.0f}", not wrong and times >= TIMES_CRYPTOFEED[which]
    return Result(
        TITLE, player.name, f"{which.upper()}, {n:,}", median, "us a frame", None if wrong else median / own, budget, kept, "; ".join(notes)
    )
