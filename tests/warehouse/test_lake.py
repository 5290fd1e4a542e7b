import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.warehouse.examples import DAY_NS, NOON_NS, STREAM, rows_of, text_rows, write
from warehouse.columns import is_packed, to_batch
from warehouse.errors import LakeNotWritableError, RowTypeError, UnknownTableError
from warehouse.lake import Lake
from warehouse.schema import TABLES

DAY = "2026-01-01"


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


@contextlib.contextmanager
def _as_nobody():
    """A folder that everybody can enter, and no rights of ours."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    before = os.geteuid()
    try:
        yield folder
    finally:
        os.seteuid(before)
        shutil.rmtree(folder)


def _drop_rights():
    if os.geteuid() == 0:
        os.seteuid(65534)


def _derived(table, n=20, start_ns=NOON_NS, **extra):
    rows = pa.table(to_batch(table, rows_of(table, 0, n, start_ns)))
    for name, values in extra.items():
        rows = rows.append_column(name, pa.array(values, pa.float64()))
    return rows


@pytest.mark.parametrize("table", [name for name in TABLES if is_packed(name)])
@pytest.mark.parametrize("seal", [False, True])
def test_what_was_written_is_read_back_bit_by_bit(lake, table, seal):
    rows = rows_of(table, 0, 500)
    writer = write(lake, table, rows, seal=seal)
    assert lake.rows(table, *STREAM).tobytes() == rows.tobytes()
    assert lake.read(table).num_rows == 500
    assert lake.streams() == [STREAM]
    assert lake.watermark(table, *STREAM) == 499
    writer.close()


def test_text_is_read_back(lake):
    write(lake, "unreadable", text_rows(0, 5))
    assert lake.read("unreadable", columns=["receive_ns", "seq", "event_seq", "reason", "frame"]).to_pylist() == text_rows(0, 5)
    with pytest.raises(RowTypeError, match=r"a table with text; use read"):
        lake.rows("unreadable", *STREAM)


def test_an_empty_lake_answers_everything_with_nothing(lake):
    assert lake.streams() == []
    for table in TABLES:
        assert lake.read(table).num_rows == 0
        assert lake.partitions(table) == []
        assert lake.version(table) == -1
        assert lake.watermark(table, *STREAM) == -1
        assert lake.manifest(table, *STREAM, DAY) is None
    assert lake.rows("trades", *STREAM).size == 0
    assert lake.compact() == dict.fromkeys(TABLES, 0)
    assert lake.vacuum() == dict.fromkeys((*TABLES, "wal"), 0)


def test_an_unknown_table_is_named_everywhere(lake):
    for ask in (lake.read, lake.partitions, lake.version, lambda table: lake.rows(table, *STREAM), lambda t: lake.watermark(t, *STREAM)):
        with pytest.raises(UnknownTableError, match=r"table must be one of l2_snapshots, .* received 'books'"):
            ask("books")


def test_replace_is_the_whole_partition_and_carries_its_manifest(lake):
    first = _derived("features", 20, mid=np.arange(20.0))
    version = lake.replace("features", *STREAM, DAY, first, {"code": "a", "rows": 20})
    assert lake.replace("features", *STREAM, DAY, first, {"rows": 20, "code": "a"}) == version, "the same again is nothing new"
    assert lake.manifest("features", *STREAM, DAY) == {"code": "a", "rows": 20}
    second = _derived("features", 5, mid=np.full(5, np.nan), spread=np.arange(5.0))
    assert lake.replace("features", *STREAM, DAY, second, {"code": "b"}) > version
    assert lake.manifest("features", *STREAM, DAY) == {"code": "b"}
    found = lake.read("features")
    assert found.column_names[-2:] == ["mid", "spread"]
    assert found.num_rows == 5
    assert np.isnan(found["mid"].to_numpy()).all()
    assert lake.read("features", version=version).num_rows == 20


def test_replace_leaves_other_partitions_alone(lake):
    lake.replace("labels", *STREAM, DAY, _derived("labels"), {"n": 1})
    lake.replace("labels", *STREAM, "2026-01-02", _derived("labels", start_ns=NOON_NS + DAY_NS), {"n": 2})
    lake.replace("labels", "binance_spot", "BTC-USDT", DAY, _derived("labels"), {"n": 3})
    lake.replace("labels", *STREAM, DAY, _derived("labels", 3), {"n": 4})
    assert lake.read("labels").num_rows == 43
    assert [lake.manifest("labels", *partition)["n"] for partition in lake.partitions("labels")] == [3, 4, 2]


def test_an_empty_partition_is_known_to_be_done(lake):
    lake.replace("labels", *STREAM, DAY, _derived("labels", 0), {"n": 0})
    assert lake.manifest("labels", *STREAM, DAY) == {"n": 0}
    assert lake.partitions("labels") == [(*STREAM, DAY)]
    assert lake.read("labels").num_rows == 0
    assert lake.sql("SELECT count(*) AS n FROM labels")["n"].to_pylist() == [0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (_derived("labels").drop_columns(["doubt"]), "must have the columns .*; missing: doubt"),
        (_derived("labels", 2, mid=[1.0, 2.0]), "must have the columns .* received .*mid"),
        (_derived("labels", start_ns=NOON_NS + DAY_NS), "must have rows of 2026-01-01 only, received rows of 2026-01-02"),
        (_derived("labels").take([1, 0]), "ascending order of seq"),
        (_derived("labels").set_column(1, "seq", pa.nulls(20, pa.int64())), "no nulls .* received nulls in seq"),
        (_derived("labels").set_column(1, "seq", pa.array(["x"] * 20)), "must have the types"),
    ],
)
def test_replace_refuses_what_the_table_does_not_declare(lake, rows, message):
    with pytest.raises(RowTypeError, match=message):
        lake.replace("labels", *STREAM, DAY, rows, {})
    assert lake.version("labels") == -1


def test_states_are_remembered_by_key(lake):
    assert lake.load_state("features-1/a/b") is None
    lake.save_state("features-1/a/b", b"one")
    lake.save_state("features-1/a/b", b"two")
    assert lake.load_state("features-1/a/b") == b"two"
    with pytest.raises(ValueError, match=r"received '../b'"):
        lake.save_state("../b", b"")


def test_a_folder_that_cannot_be_made_is_named():
    with _as_nobody() as folder:
        folder.chmod(0o555)
        _drop_rights()
        with pytest.raises(LakeNotWritableError, match=rf"the lake must be writable, but {folder}/new.* is not: Permission denied"):
            Lake(folder / "new")


def test_a_read_only_lake_can_be_read_but_not_written():
    with _as_nobody() as folder:
        lake = Lake(folder / "lake")
        write(lake, "trades", rows_of("trades", 0, 5))
        for path in (folder / "lake").rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        _drop_rights()
        lake = Lake(folder / "lake")
        assert lake.read("trades").num_rows == 5
        assert lake.sql("SELECT count(*) AS n FROM trades")["n"].to_pylist() == [5]
        for write_something in (lake.writer, lake.publish, lake.compact, lake.vacuum, lambda: lake.pin({"trades": 1}, "x")):
            with pytest.raises(LakeNotWritableError, match=rf"{folder}/lake/.* is not: .*ermission denied"):
                write_something()


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "lake").write_text("not a folder")
    with pytest.raises(LakeNotWritableError, match=r"lake.* is not: (Not a directory|File exists)"):
        Lake(tmp_path / "lake")


def test_size_counts_every_byte(lake):
    before = lake.size()
    write(lake, "trades", rows_of("trades", 0, 1000))
    files = sum(path.stat().st_size for path in lake.root.rglob("*") if path.is_file())
    assert lake.size() == files > before
