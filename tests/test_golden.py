"""The same frames give the same bytes: however they are cut, and on every interpreter that is supported."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import booster
from simulator import frames
from tasks.features.catalogue import NAMES, SETS, columns
from tasks.features.fold import Features
from tests import golden
from tests.captures import SHARED, read

ROOT = Path(__file__).resolve().parents[1]
VENUE, RAW = "binance_usdm", "BTCUSDT"
REAL = SHARED / "captures" / "binance_usdm-btcusdt-20240808.gz"
NEEDED = ("numpy", "numba", "llvmlite", "msgspec")


def _streams():
    yield "simulated", list(frames(VENUE, RAW, 60.0, seed=3))
    if REAL.exists():
        yield "real", read(REAL)[:40_000]


@pytest.fixture(scope="module", params=list(_streams()), ids=lambda stream: stream[0])
def stream(request, tmp_path_factory):
    name, events = request.param
    folder = tmp_path_factory.mktemp(f"golden-{name}")
    books, trades, changes = golden.rows_of(events, VENUE, RAW)
    matrix = golden.folded(books, trades, changes, [])
    mid = matrix[:, NAMES.index("mid")]
    up = (mid[20:] > mid[:-20]).astype(float)
    names = SETS["l2_core"]
    text = booster.text(booster.train(matrix[:-20][:, columns(names)], up, names, n_trees=60, seed=5))
    (folder / "model.txt").write_text(text)
    (folder / "capture.txt").write_bytes(b"".join(b"%d %s\n" % event for event in events))
    return name, folder, (books, trades, changes), text, golden.hashes(books, matrix, text)


def test_any_chunking_gives_the_same_bytes(stream):
    _, _, (books, trades, changes), text, expected = stream
    last = int(max(rows["event_seq"].max() for rows in (books, trades, changes)))
    rng = np.random.default_rng(11)
    for pieces in (2, 7, 60):
        cuts = sorted(rng.choice(last, pieces, replace=False).tolist())
        assert golden.hashes(books, golden.folded(books, trades, changes, cuts), text) == expected


def test_one_event_at_a_time_gives_the_same_bytes(stream):
    _, _, tables, text, expected = stream
    features, out = Features(), []
    order = sorted((int(row["event_seq"]), kind, i) for kind, rows in enumerate(tables) for i, row in enumerate(rows))
    for _, kind, i in order:
        row = tables[kind][i : i + 1]
        if kind == 0:
            out.append(features.book(row).copy())
        else:
            (features.trade, features.change)[kind - 1](row)
    assert golden.hashes(tables[0], np.array(out), text) == expected


def _interpreters():
    found = {}
    for minor in {11, 12, 13} - {sys.version_info.minor}:  # what is expected was made by this one
        pyenv = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))
        for candidate in [shutil.which(f"python3.{minor}"), *map(str, pyenv)]:
            if candidate and f"3.{minor}." in _version(candidate):
                found.setdefault(f"3.{minor}", candidate)
    return found


def _version(python):
    answer = subprocess.run([python, "-V"], capture_output=True, text=True)
    return answer.stdout + "." if answer.returncode == 0 else ""


def _locked():
    # The lock's own lines, hashes and all, of the few packages that the kernels need.
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text())
    wanted = [block for block in blocks if re.match(rf"({'|'.join(NEEDED)})==", block)]
    assert len(wanted) == len(NEEDED)
    return "\n".join(re.sub(r"\n +#.*", "", block) for block in wanted) + "\n"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("version", "python"), _interpreters().items())
def test_every_interpreter_gives_the_same_bytes(version, python, stream, tmp_path_factory):
    name, folder, _, _, expected = stream
    home = tmp_path_factory.getbasetemp() / f"python-{version}"
    if not (home / "ready").exists():
        subprocess.run([python, "-m", "venv", "--without-pip", str(home)], check=True)
        (home / "lock.txt").write_text(_locked())
        pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python"]  # ours: a pip for each would take longer than the packages
        install = [*pip, "install", "-q", "--no-compile", "--no-deps", "--require-hashes", "-r", home / "lock.txt"]
        subprocess.run(list(map(str, install)), check=True)
        (home / "ready").touch()
    script = [str(home / "bin" / "python"), str(ROOT / "tests" / "golden.py")]
    told = subprocess.run(
        [*script, str(folder / "capture.txt"), VENUE, RAW, str(folder / "model.txt")],
        capture_output=True, text=True, cwd=folder, env={"NUMBA_CACHE_DIR": str(home / "numba"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-2000:]
    assert json.loads(told.stdout) == expected, f"{name} frames on {version}"
