import errno
import threading

import pytest

import warehouse.raw as raw
from tasks.replay import read_capture
from warehouse.errors import LakeFullError
from warehouse.raw import RawWriter, captures, hours, run_up

HOUR_NS = 3_600_000_000_000
NOON_NS = 1_767_268_800_000_000_000
FRAMES = [b'{"a":1}', b"", b"two\nlines", b"\xff\x00 spaces  ", b"one\n", b"\n"]


def _read(root):
    return list(read_capture([capture.path for capture in captures([root / "raw"])]))


def test_frames_come_back_as_they_were(tmp_path):
    writer = RawWriter(tmp_path, "kraken", "BTC-USD", run="session-1")
    lines = [(NOON_NS + n, frame) for n, frame in enumerate(FRAMES)]
    for line in lines[:3]:
        writer.write(*line)
    writer.flush()
    for line in lines[3:]:
        writer.write(*line)
    writer.close()
    assert _read(tmp_path) == lines
    (capture,) = captures([tmp_path / "raw"])
    assert (capture.symbol, capture.run, capture.first_ns) == ("BTC-USD", "session-1", NOON_NS)
    assert capture.path.relative_to(tmp_path).parts[:4] == ("raw", "kraken", "2026-01-01", "12")


def test_a_later_hour_turns_the_page_and_a_stamp_that_runs_back_does_not(tmp_path):
    asked = []
    writer = RawWriter(tmp_path, "okx", "BTC-USD-220527", lambda: asked.append(1) or b"%d" % len(asked), run="r")
    lines = [(NOON_NS + offset, b"f%d" % n) for n, offset in enumerate((-5, -1, 2, -3, 7, HOUR_NS, HOUR_NS - 1, 3 * HOUR_NS))]
    for line in lines:
        writer.write(*line)
    writer.close()
    assert _read(tmp_path) == lines
    found = captures([tmp_path / "raw"])
    assert [(capture.first_ns - NOON_NS, capture.state) for capture in found] == [
        (-5, b"1"), (2, b"2"), (HOUR_NS, b"3"), (3 * HOUR_NS, b"4"),
    ]  # fmt: skip
    assert [hour for _, hour, _ in hours(tmp_path)] == ["2026-01-01/11", "2026-01-01/12", "2026-01-01/13", "2026-01-01/15"]
    assert run_up(found[2]) == found[:2]
    found[1].path.with_suffix(".state").write_bytes(b"cut")
    assert found[1].state == b""


def test_frames_that_come_while_others_are_written_are_not_lost(tmp_path):
    writer, stop = RawWriter(tmp_path, "kraken", "BTC-USD"), threading.Event()

    def keep_flushing():
        while not stop.is_set():
            writer.flush()

    thread = threading.Thread(target=keep_flushing)
    thread.start()
    for n in range(20_000):
        writer.write(NOON_NS + n * HOUR_NS // 5_000, b"%d" % n)
    stop.set()
    thread.join()
    writer.close()
    assert [frame for _, frame in _read(tmp_path)] == [b"%d" % n for n in range(20_000)]


def test_a_full_disk_costs_nothing_once_there_is_room(tmp_path, monkeypatch):
    writer = RawWriter(tmp_path, "kraken", "BTC-USD")
    writer.write(NOON_NS, b"first")
    writer.flush()
    with monkeypatch.context() as patch:
        patch.setattr(raw.RawWriter, "_append", _half_written)
        for n in range(3):
            writer.write(NOON_NS + n + 1, b"waits %d" % n)
            with pytest.raises(LakeFullError):
                writer.flush()
    writer.write(NOON_NS + HOUR_NS, b"last")
    writer.close()
    assert [frame for _, frame in _read(tmp_path)] == [b"first", b"waits 0", b"waits 1", b"waits 2", b"last"]


def _half_written(self, data):
    raise LakeFullError(self._path, "No space left on device")


def test_frames_that_no_longer_fit_in_memory_are_told_as_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "_WAITING_BYTES", 100)
    writer = RawWriter(tmp_path, "kraken", "BTC-USD")
    with monkeypatch.context() as patch:
        patch.setattr(raw.RawWriter, "_append", _half_written)
        for n in range(10):
            writer.write(NOON_NS + n, b"%02d" % n + b"x" * 28)
            with pytest.raises(LakeFullError):
                writer.flush()
    writer.close()
    assert [(ns - NOON_NS, frame[:2]) for ns, frame in _read(tmp_path)] == [(6, b""), (7, b"07"), (8, b"08"), (9, b"09")]


def test_a_write_cut_in_the_middle_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    writer = RawWriter(tmp_path, "kraken", "BTC-USD")
    writer.write(NOON_NS, b"first")
    writer.flush()
    before = writer._path.read_bytes()
    writer.write(NOON_NS + 1, b"second")
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_file", _Full(writer._file))
        with pytest.raises(LakeFullError):
            writer.flush()
    assert writer._path.read_bytes() == before
    writer.close()
    assert [frame for _, frame in _read(tmp_path)] == [b"first", b"second"]


class _Full:
    """A file that takes five bytes more and then has no room."""

    def __init__(self, file):
        self._file, self.fileno, self._room = file, file.fileno, 5

    def write(self, data):
        if not self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken, self._room = self._file.write(bytes(data[: self._room])), 0
        return taken
