import numpy as np
import pytest

from tasks.feed.terms import Note
from tasks.feed.watch import TOLD, Watch
from tasks.venues.directory import adapter
from tasks.venues.ladder import Instrument
from tests.captures import generated
from warehouse.schema import CLOCK_JUMP, QUEUE_FULL, RECONNECT, STALL, SUSPECT, row_dtype

SECOND = 1_000_000_000


class Desk:
    """A watch with clocks to set, one stream, and the rows it writes."""

    def __init__(self):
        self.now_ns = self.mono_ns = 1_700_000_000 * SECOND
        self.rows = {table: [] for table in TOLD}
        self.watch = Watch(lambda: self.now_ns, lambda: self.mono_ns)
        self.adapter = adapter("binance_usdm", "BTCUSDT")
        self.stream = self.watch.open("BTCUSDT", self.adapter, self.append, dict.fromkeys(TOLD, 5))

    def append(self, table, rows):
        self.rows[table] += list(rows)
        return len(rows)

    def pass_time(self, seconds, step=0.5):
        for _ in range(int(seconds / step)):
            self.now_ns += int(step * SECOND)
            self.mono_ns += int(step * SECOND)
            self.watch.tick()


def test_each_minute_is_a_row_of_what_it_brought():
    desk = Desk()
    desk.watch.tick()
    for receive_ns, frame in generated("binance_usdm", 100):
        for _ in desk.adapter.receive(frame, receive_ns):
            pass
    desk.watch.note(Note(RECONNECT, ("BTCUSDT",), desk.now_ns, desk.now_ns, "opened again"))
    desk.pass_time(150)
    minutes = desk.rows["stream_minutes"]
    assert [int(row["seq"]) for row in minutes] == [5, 6]
    assert int(minutes[0]["messages"]) == desk.adapter.counts["messages"] > 100
    assert int(minutes[0]["reconnects"]) == 1
    assert int(minutes[1]["messages"]) == int(minutes[1]["reconnects"]) == 0
    assert minutes[1]["exchange_ns"] - minutes[0]["exchange_ns"] == 60 * SECOND
    assert desk.watch.minutes[0]["symbol"] == "BTC-USDT-PERP"
    assert desk.watch.minutes[0]["latency_p50_ms"] is None


def test_a_clock_of_ours_that_is_set_is_a_finding_and_moves_nothing_else():
    desk = Desk()
    desk.pass_time(5)
    desk.now_ns += SECOND // 2  # the wall clock, not the steady one
    desk.pass_time(5)
    found = desk.rows["findings"]
    assert [row["kind"] for row in found] == [CLOCK_JUMP]
    assert found[0]["received"] == pytest.approx(500.0)
    assert "our clock was set" in found[0]["detail"]


def test_findings_are_numbered_and_unknown_symbols_are_none():
    desk = Desk()
    for symbol in ("BTCUSDT", "NOBODY", "BTCUSDT"):
        desk.watch.note(Note(STALL, (symbol,), desk.now_ns - SECOND, desk.now_ns, "silent"))
    assert [row["seq"] for row in desk.rows["findings"]] == [5, 6]
    assert desk.rows["findings"][0]["end_ns"] - desk.rows["findings"][0]["exchange_ns"] == SECOND


def test_a_full_queue_is_one_finding_a_minute_and_counted():
    desk = Desk()
    desk.watch.tick()
    for _ in range(40):
        desk.watch.note(Note(QUEUE_FULL, ("BTCUSDT",), desk.now_ns, desk.now_ns, "full"))
    desk.pass_time(90)
    assert [row["kind"] for row in desk.rows["findings"]] == [QUEUE_FULL]
    assert int(desk.rows["stream_minutes"][0]["queue_full"]) == 40


def test_an_instrument_is_written_when_it_changes():
    desk = Desk()
    known = np.zeros(0, row_dtype("instruments"))
    assert desk.watch.instrument("BTCUSDT", Instrument(tick=0.1, lot=0.001), known)
    known = np.array(desk.rows["instruments"])
    assert not desk.watch.instrument("BTCUSDT", Instrument(tick=0.1, lot=0.001), known)
    assert desk.watch.instrument("BTCUSDT", Instrument(tick=0.01, lot=0.001), known)
    assert [float(row["tick"]) for row in desk.rows["instruments"]] == [0.1, 0.01]


def test_stretch_that_an_adapter_doubts_afterwards_is_a_finding_once():
    desk = Desk()
    desk.adapter = desk.stream.adapter = adapter("coinbase_exchange", "BTC-USD")
    desk.adapter.doubts.append((50 * SECOND, 52 * SECOND, "bid 100.0 stood above the quoted 99.0"))
    desk.watch.tick()
    desk.watch.tick()
    (found,) = desk.rows["findings"]
    assert (found["kind"], found["exchange_ns"], found["end_ns"]) == (SUSPECT, 50 * SECOND, 52 * SECOND)
    assert "100.0" in found["detail"]
    desk.pass_time(120)
    assert len(desk.rows["findings"]) == 1
