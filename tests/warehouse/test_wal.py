import fcntl
import random
import signal
import subprocess
import sys

import pytest

from tests.warehouse.examples import STREAM, rows_of, text_rows, write
from warehouse.columns import text_batch, to_batch
from warehouse.lake import Lake
from warehouse.wal import Orphan, Part, Segment, commits, encode, scan, segments, tail


def _parts(first, n):
    return [
        Part.of("trades", to_batch("trades", rows_of("trades", first, n))),
        Part.of("unreadable", text_batch("unreadable", text_rows(first, n))),
    ]


@pytest.fixture
def segment(tmp_path):
    """Eleven commits of 1 to 11 rows in two tables, and the offset at which each ends."""
    segment, first, ends = Segment(tmp_path), 0, []
    for n in range(1, 12):
        segment.write(encode(_parts(first, n)))
        segment.sync()
        first += n
        ends.append(segment.acked_bytes)
    segment.close()
    return segment.path, ends


def _whole(path):
    """Return how many commits read back, each checked against what was written."""
    first = 0
    for number, parts in enumerate(commits(path), 1):
        for part, expected in zip(parts, _parts(first, number), strict=True):
            assert (part.table, part.lo, part.hi, part.event_hi) == (expected.table, expected.lo, expected.hi, expected.event_hi)
            assert part.batch.equals(expected.batch, check_metadata=True)
        first += number
    return 0 if first == 0 else number


def test_what_was_written_is_read_back(segment):
    path, ends = segment
    assert _whole(path) == len(ends)
    assert scan(path) == (len(ends), ends[-1], ends[-1], True)


def test_a_cut_segment_gives_exactly_its_whole_commits(segment):
    path, ends = segment
    content, chance = path.read_bytes(), random.Random(1)
    for length in [0, 1, *ends, *(end + 1 for end in ends[:-1]), *(chance.randrange(len(content)) for _ in range(300))]:
        path.write_bytes(content[:length])
        assert _whole(path) == sum(end <= length for end in ends)
        assert scan(path)[3]


def test_a_changed_bit_or_page_ends_the_segment_before_it(segment):
    path, ends = segment
    content, chance = path.read_bytes(), random.Random(2)
    for trial in range(400):
        damaged = bytearray(content)
        at = chance.randrange(len(content))
        if trial % 4:
            damaged[at] ^= 1 << chance.randrange(8)
        else:
            damaged[at : at + 4096] = bytes(min(4096, len(content) - at))
        path.write_bytes(damaged)
        first_wrong = next((i for i, (a, b) in enumerate(zip(content, damaged, strict=True)) if a != b), len(content))
        assert _whole(path) == sum(end <= first_wrong for end in ends)


def test_what_follows_a_failed_write_is_readable(tmp_path):
    segment = Segment(tmp_path)
    segment.write(encode(_parts(0, 1)))
    segment.sync()
    segment.write(encode(_parts(1, 2)))
    segment.cut()
    segment.write(encode(_parts(1, 2)))
    segment.sync()
    assert _whole(segment.path) == 2
    segment.close()


def test_a_live_segment_can_be_read_but_not_adopted(tmp_path):
    segment = Segment(tmp_path)
    segment.write(encode(_parts(0, 1)))
    assert _whole(segment.path) == 1
    assert Orphan.adopt(segment.path) is None
    segment.close()
    orphan = Orphan.adopt(segment.path)
    assert orphan is not None
    assert Orphan.adopt(segment.path) is None, "adopted twice"
    orphan.unlink()
    assert Orphan.adopt(segment.path) is None
    assert segments(tmp_path) == []


def test_numbers_of_segments_never_meet(tmp_path):
    first, second = Segment(tmp_path), Segment(tmp_path)
    assert segments(tmp_path) == [first.path, second.path]
    first.close()
    second.close()


def test_tail_is_in_the_order_of_seq(tmp_path):
    second = Segment(tmp_path)
    second.write(encode(_parts(3, 2)))
    first = Segment(tmp_path)
    first.write(encode(_parts(0, 3)))
    assert [(part.lo, part.hi) for part in tail(tmp_path, "trades")] == [(0, 2), (3, 4)]
    assert tail(tmp_path, "labels") == []
    first.close()
    second.close()


def test_the_rows_of_a_killed_writer_are_there_and_a_torn_end_is_not(tmp_path):
    code = (
        "import os, signal, sys; from tests.warehouse.examples import *; from warehouse.lake import Lake\n"
        "write(Lake(sys.argv[1]), 'trades', rows_of('trades', 0, 50), seal=False); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    (path,) = tmp_path.glob("wal/*/*/*.wal")
    with open(path, "ab") as file:
        file.write(path.read_bytes()[:1000])
    lake = Lake(tmp_path)
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 50).tobytes()
    write(lake, "trades", rows_of("trades", 50, 5), "next")
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 55).tobytes()
    assert lake.damaged() == []


def test_a_damaged_segment_is_set_aside_and_its_whole_commits_are_kept(tmp_path):
    lake = Lake(tmp_path)
    writer = lake.writer()
    session = writer.session(*STREAM, "first")
    for first in (0, 10, 20):
        session.append("trades", rows_of("trades", first, 10))
        writer.commit()
    for stream in writer._streams.values():
        stream.close()  # as the system closes what a killed process had open
    (path,) = tmp_path.glob("wal/*/*/*.wal")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with lake.writer() as again:
        assert again.session(*STREAM, "second").base["trades"] == 10
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 10).tobytes()
    assert [path.suffix for path in lake.damaged()] == [".damaged"]
    assert lake.damaged()[0].read_bytes() == content


def test_a_segment_taken_for_an_orphan_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    lock, taken = fcntl.flock, []

    def too_late(fd, how):
        if not taken:
            taken.append(next(tmp_path.glob("*.wal")))
            taken[0].unlink()
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", too_late)
    segment = Segment(tmp_path)
    assert taken
    assert segment.path.exists()
    segment.close()
