"""Kills a writing process at every single file operation in turn, and checks what is left after each.

    python -m tests.warehouse.crash_points FOLDER FIRST STEP

Python announces opens, renames, removals and the like to audit hooks; the n-th one sends
SIGKILL.  Children are forked, one to write and die, one to look.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.warehouse.examples import DAY_NS, NOON_NS, STREAM, rows_of
from warehouse.lake import Lake

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "fcntl.flock"}
# Twelve hours a row: the rows span several days, so a seal writes several files a table.
ROWS = {table: rows_of(table, 0, 8, NOON_NS, DAY_NS // 2) for table in ("l2_snapshots", "trades")}


def ingest(root):
    writer = Lake(root).writer()
    session = writer.session(*STREAM, "replay")
    for part in (slice(0, 3), slice(3, 8)):
        for table, rows in ROWS.items():
            session.append(table, rows[part])
        writer.commit()
        if part.start == 0:
            writer.seal()
    writer.close()


def ingest_and_die(root, after):
    count = 0

    def hook(event, args):
        nonlocal count
        if event in OPERATIONS:
            count += 1
            if count == after:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    ingest(root)


def look(root):
    """Check that what is there is a whole prefix; then let it be finished, and check that it is all."""
    lake = Lake(root)
    lengths = set()
    for table, rows in ROWS.items():
        found = lake.rows(table, *STREAM)
        assert found.tobytes() == rows[: len(found)].tobytes(), f"{table}: not a prefix"
        assert lake.sql(f"SELECT count(*) AS n FROM {table}")["n"][0].as_py() == len(found)
        lengths.add(len(found))
    assert len(lengths) == 1, f"tables of one commit came apart: {lengths}"
    ingest(root)
    for table, rows in ROWS.items():
        assert lake.rows(table, *STREAM).tobytes() == rows.tobytes(), f"{table}: lost or doubled"
        names = {file.path for file in lake._layout.log(table).snapshot().files}
        there = {str(path.relative_to(lake._layout.table(table))) for path in lake._layout.table(table).glob("venue=*/**/*.parquet")}
        assert there == names, f"{table}: files that no version has: {there - names}"
    assert not list(Path(root).glob("wal/*/*/*.wal")), "a sealed segment is left"


def in_child(do, *args):
    pid = os.fork()
    if pid == 0:
        try:
            do(*args)
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(folder, first, step):
    points = 0
    for after in range(first, 10_000, step):
        root = os.path.join(folder, f"lake{after}")
        code = in_child(ingest_and_die, root, after)
        if code == 0:
            break
        assert code == -signal.SIGKILL, f"operation {after}: exit code {code}"
        assert in_child(look, root) == 0, f"killed at operation {after}"
        points += 1
    print(points)


if __name__ == "__main__":
    pa.set_cpu_count(1)
    np.seterr(all="raise")
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
