"""Days made of recordings beside others at work: a live run that was killed, rows that lie there twice, another refresh."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from flows.between import align
from flows.refresh import between_venues
from flows.settings import HOME, Settings
from tasks.aligned import ALL
from tasks.consolidate import consolidate
from tasks.features.cross_venue import STEP_NS
from tasks.normalise import signal_between_venues
from tests.recorded_venues import ALIGNED, DAYS, MIDNIGHT, SYMBOLS, events_of, live_rows, make, paid_lake, record, rows_of, somebody

LEAVE = """
import os, signal, sys
import numpy as np
from warehouse.lake import Lake
rows, writer = np.load(sys.argv[2]), Lake(sys.argv[1]).writer()
writer.session("all", "BTC", "killed", ("consolidated", "signals"), {"consolidated": int(rows["seq"][0])})
writer.append("consolidated", "all", "BTC", rows)
writer.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def events():
    return events_of()


@pytest.fixture
def lake(tmp_path):
    return paid_lake(tmp_path / "lake")


def leave(root, rows):
    """Acknowledge rows in a process that is killed then."""
    script = root.parent / "killed.py"
    np.save(root.parent / "rows.npy", rows)
    script.write_text(LEAVE)
    done = subprocess.run([sys.executable, script, root, root.parent / "rows.npy"], env=os.environ | {"PYTHONPATH": str(HOME)})
    assert done.returncode == -signal.SIGKILL


def test_what_a_killed_live_run_left_is_sealed_first_and_no_step_comes_twice(lake, events):
    record(lake, events)
    expected = live_rows(events)
    first_day = expected[expected["exchange_ns"] < MIDNIGHT]
    leave(lake.root, first_day[:9])
    assert consolidate(lake, ALIGNED, DAYS[0], somebody)["skipped"]  # who holds it will seal it
    assert [known["skipped"] for known in make(lake)] == [False, False]
    signal_between_venues(lake, "BTC")
    with lake.writer() as writer:
        writer.session(ALL, "BTC", "next", ("consolidated", "signals"))
    assert rows_of(lake).tobytes() == expected.tobytes()
    assert lake.manifest("consolidated", ALL, "BTC", DAYS[0])["live"] == []


def test_rows_that_lie_in_a_day_twice_are_one_when_it_is_made_anew(lake, events):
    record(lake, events)
    more = live_rows(events)[:4]
    more["seq"] -= 1000
    more["exchange_ns"] -= 1000 * STEP_NS
    leave(lake.root, more)
    lake.replace("consolidated", ALL, "BTC", DAYS[0], {name: np.ascontiguousarray(more[name]) for name in more.dtype.names}, {"live": []})
    with lake.writer() as writer:
        writer.session(ALL, "BTC", "next", ("consolidated",))
    assert rows_of(lake).size == 8
    make(lake)
    assert rows_of(lake)["seq"].tolist() == np.concatenate([more, live_rows(events)])["seq"].tolist()


def test_a_day_that_another_refresh_made_of_more_meanwhile_stays(lake, events):
    record(lake, events[:500])
    entered = []

    @contextmanager
    def slow():
        entered.append(1)
        if len(entered) == 2:
            record(lake, events, "more")
            make(lake)
        yield True

    assert consolidate(lake, ALIGNED, DAYS[0], slow)["skipped"]
    assert rows_of(lake).tobytes() == live_rows(events).tobytes()
    assert [lake.manifest("consolidated", ALL, "BTC", day)["live"] for day in DAYS] == [[], []]


def test_an_asset_that_fails_is_told_and_leaves_the_others_and_the_signals_alone(lake, events):
    record(lake, events)
    record(lake, events, symbols={venue: symbol.replace("BTC", "ADA") for venue, symbol in SYMBOLS.items()})
    for path in (path for path in lake.root.rglob("*.parquet") if "ADA" in str(path)):
        path.write_bytes(b"not what it was")
    settings = Settings(lake=lake.root, quote_rates="USDT:1.0,USD:1.001", taker_fee_bps=0.1)
    done, failed = align(lake, settings)
    assert list(failed) == ["ADA"]
    assert list(done["BTC"]) == list(DAYS)
    assert rows_of(lake).size == live_rows(events).size
    assert lake.rows("signals", ALL, "BTC").size
    told = {row["partition"]: row["found"] for row in between_venues.fn(lake, settings, 2)}
    assert [told[f"all BTC {day}"] for day in DAYS] == ["ok", "ok"]
    assert told["all ADA"].startswith(type(failed["ADA"]).__name__)
