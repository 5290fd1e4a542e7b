import shutil

import pytest

from tests.warehouse.examples import STREAM, rows_of, write
from warehouse.errors import VersionGoneError
from warehouse.lake import Lake


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path / "lake")
    for first in (0, 10, 20):
        write(lake, "trades", rows_of("trades", first, 10), f"from {first}")
    return lake


def test_a_pinned_version_survives_merging_and_vacuum(lake):
    version = lake.version("trades") - 1
    lake.pin({"trades": version, "labels": -1}, "model-1")
    assert lake.pins() == {"model-1": {"trades": version, "labels": -1}}
    lake.compact()
    assert lake.vacuum(0)["trades"] == 1, "the file that came after the pin"
    assert lake.read("trades", version=version)["seq"].to_pylist() == list(range(20))
    assert lake.read("labels", version=-1).num_rows == 0
    assert lake.rows("trades", *STREAM).tobytes() == rows_of("trades", 0, 30).tobytes()
    assert lake.changed("model-1") == []
    lake.unpin("model-1")
    assert lake.vacuum(0)["trades"] == 2
    with pytest.raises(FileNotFoundError):
        lake.read("trades", version=version)


def test_a_pin_outlives_the_log(lake):
    version = lake.version("trades")
    lake.pin({"trades": version}, "model-1")
    shutil.rmtree(lake.root / "tables" / "trades" / "_delta_log")
    assert lake.read("trades", version=version)["seq"].to_pylist() == list(range(30))
    with pytest.raises(VersionGoneError):
        lake.read("trades", version=version - 1)


def test_changed_files_are_named(lake):
    lake.pin({"trades": 1}, "model-1")
    (path,) = lake.root.glob("tables/trades/venue=*/**/rows-000000000000-*.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert lake.changed("model-1") == [f"trades/{path.relative_to(lake.root / 'tables' / 'trades')}"]


def test_a_version_that_never_was_cannot_be_pinned(lake):
    with pytest.raises(VersionGoneError):
        lake.pin({"trades": 99}, "model-1")
    with pytest.raises(ValueError, match="received 'a/b'"):
        lake.pin({"trades": 1}, "a/b")
    assert lake.pins() == {}
