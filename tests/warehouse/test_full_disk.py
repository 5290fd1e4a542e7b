"""A disk that fills: a small one of its own where we may mount it, a limit on the size of files in any case."""

import contextlib
import os
import re
import resource
import subprocess

import pytest

from tests.warehouse.examples import STREAM, rows_of
from warehouse.errors import LakeFullError
from warehouse.lake import Lake


@contextlib.contextmanager
def _small_disk(folder):
    """A disk of 3 MB, 2 of them taken until `free` is called; `fill` takes what is left but for some bytes."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=True, capture_output=True)

    def fill(left=0):
        (folder / "filler").unlink(missing_ok=True)
        with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(1000))
        os.truncate(folder / "filler", max((folder / "filler").stat().st_size - left, 0))

    def free():
        (folder / "ballast").unlink()
        (folder / "filler").unlink(missing_ok=True)

    try:
        (folder / "ballast").write_bytes(bytes(2 << 20))
        yield fill, free
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def _small_files(folder):
    """No file may grow beyond 200 kB, after `fill` beyond the few bytes it leaves, until `free` lifts the limit."""
    folder.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    limit(200_000)
    try:
        yield lambda left=0: limit(left), lambda: limit(before[0])
    finally:
        limit(before[0])


def _may_mount(folder):
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode == 0:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    return done.returncode == 0


@pytest.fixture(params=["small disk", "small files"])
def full(request, tmp_path):
    """A folder that fills up, and functions that fill it and make room."""
    make = _small_disk if request.param == "small disk" and os.geteuid() == 0 and _may_mount(tmp_path / "probe") else _small_files
    with make(tmp_path / "disk") as (fill, free):
        yield tmp_path / "disk", fill, free


def test_a_full_disk_stops_acknowledging_and_nothing_else(full):
    folder, _, free = full
    lake = Lake(folder / "lake")
    writer = lake.writer()
    session = writer.session(*STREAM, "first")
    acked = first = 0
    failure = None
    while failure is None and first < 20_000:
        session.append("l2_snapshots", rows_of("l2_snapshots", first, 50))
        first += 50
        try:
            acked += writer.commit()
        except LakeFullError as error:
            failure = str(error)
    assert re.fullmatch(
        r"no space left to write .*: (No space left on device|File too large); acknowledged rows are safe, free some and go on", failure
    )
    assert 0 < acked < first
    assert lake.rows("l2_snapshots", *STREAM).tobytes() == rows_of("l2_snapshots", 0, acked).tobytes()

    session.append("l2_snapshots", rows_of("l2_snapshots", first, 50))
    with pytest.raises(LakeFullError):
        writer.commit()
    assert lake.rows("l2_snapshots", *STREAM).tobytes() == rows_of("l2_snapshots", 0, acked).tobytes()

    free()
    assert writer.commit() == first + 50 - acked
    writer.close()
    assert lake.rows("l2_snapshots", *STREAM).tobytes() == rows_of("l2_snapshots", 0, first + 50).tobytes()
    assert lake.read("l2_snapshots", tail=False).num_rows == first + 50


def test_a_seal_without_space_leaves_the_rows_where_they_are(full):
    folder, fill, free = full
    lake = Lake(folder / "lake")
    writer = lake.writer()
    session = writer.session(*STREAM, "first")
    for first in range(0, 200, 50):
        session.append("l2_snapshots", rows_of("l2_snapshots", first, 50))
        writer.commit()
    sealed = failed = 0
    for left in range(0, 200_000, 4096):  # a little more room each time: it runs out later and later on the way
        fill(left)
        try:
            sealed = writer.seal()
            break
        except LakeFullError:
            failed += 1
        assert lake.rows("l2_snapshots", *STREAM).tobytes() == rows_of("l2_snapshots", 0, 200).tobytes()
    assert failed > 2
    free()
    assert sealed + writer.seal() == 200
    writer.close()
    assert lake.rows("l2_snapshots", *STREAM).tobytes() == rows_of("l2_snapshots", 0, 200).tobytes()


def test_a_full_disk_is_told_on_opening_and_the_next_start_goes_on(full):
    folder, _, free = full
    lake = Lake(folder / "lake")
    writer = lake.writer()
    session = writer.session(*STREAM, "first")
    first = 0
    with contextlib.suppress(LakeFullError):
        while True:
            session.append("l2_snapshots", rows_of("l2_snapshots", first, 50))
            writer.commit()
            first += 50
    with contextlib.suppress(LakeFullError):
        writer.close()
    free()
    with lake.writer() as again:
        session = again.session(*STREAM, "first")
        assert session.resume["l2_snapshots"] >= first - 1
        session.append("l2_snapshots", rows_of("l2_snapshots", 0, first + 100))
    assert lake.rows("l2_snapshots", *STREAM).tobytes() == rows_of("l2_snapshots", 0, first + 100).tobytes()
