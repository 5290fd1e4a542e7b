"""Contestants as processes: started, asked in turn on one core, stopped."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from install import peer_python, room

HERE = Path(__file__).resolve().parent
BOOKS = ("cryptofeed", "ccxt", "nautilus")
DECODERS = ("json", "orjson", "msgspec", "msgspec-typed")


@dataclass
class Player:
    """A contestant's process and the seconds a frame that its rounds took."""

    name: str
    process: subprocess.Popen
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"depth": [], "all": []})

    def ask(self, request: str) -> dict:
        """Return the answer to one request, or raise what the process left on standard error."""
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise ContestError(self.name, self.process.wait(), request)
        return json.loads(line)

    def round(self, which: str) -> None:
        """Time one pass over the frames."""
        reply = self.ask(f"round {which}")
        self.seconds[which].append(reply["seconds"] / reply["frames"])

    def median_us(self, which: str) -> float:
        """Return the median of the rounds, in microseconds a frame."""
        return statistics.median(self.seconds[which]) * 1e6

    def best_us(self, which: str) -> float:
        """Return the best of the rounds: what is left when the machine's noise is at its least."""
        return min(self.seconds[which]) * 1e6

    def close(self) -> None:
        """End the process; it leaves at the end of its input."""
        self.process.stdin.close()
        self.process.wait(timeout=60)


class ContestError(Exception):
    """A contestant stopped answering."""

    def __init__(self, name: str, exit_code: int, request: str) -> None:
        super().__init__(f"{name} ended with exit code {exit_code} when asked {request!r}; its error is above")


def start(name: str, python: Path, script: str, core: int, venue: str, files: list[Path], **extra: str) -> Player:
    """Start one contestant; it loads the capture before it answers."""
    command = [str(python), str(HERE / script), str(core), venue, *(str(file.resolve()) for file in files)]
    environment = {**os.environ, **extra}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=room())
    return Player(name, process)


def start_all(core: int, venue: str, files: list[Path]) -> tuple[list[Player], list[Player], dict[str, str]]:
    """Return the book contestants (ours first), the decoders, and the peers that are missing with the reason."""
    here = Path(sys.executable)
    books, missing = [start("tidebook", here, "ours_book.py", core, venue, files)], {}
    for peer in BOOKS:
        python = peer_python(peer)
        if python is None:
            missing[peer] = "not installed here"
        elif peer == "nautilus" and venue == "binance_spot":
            missing[peer] = "its runner reads futures only"
        else:
            books.append(start(peer, python, f"peers/run_{peer}.py", core, venue, files))
    decoders = [start(f"{name} (decode alone)", here, "peers/run_json.py", core, venue, files, CONTEST_JSON=name) for name in DECODERS]
    return books, decoders, missing


def interleave(players: list[Player], rounds: int) -> None:
    """Give every player a warm-up, then `rounds` timed passes in turn, so that all see the same weather."""
    for which in ("depth", "all"):
        for turn in range(rounds + 1):
            for player in players:
                player.round(which)
                if turn == 0:
                    player.seconds[which].clear()
