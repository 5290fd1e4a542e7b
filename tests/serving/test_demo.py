"""What a demo may clear: lakes that demos made and nobody else uses, and nothing else."""

import os
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from cli import app
from flows.settings import Settings
from serving.child import Child
from serving.demo import MARK, fresh_lake
from warehouse.schema import row_dtype


@pytest.fixture
def demo(tmp_path):
    """A lake as a demo leaves it: its mark names the one session there is."""
    lake = fresh_lake(tmp_path / "demo")
    (lake.root / MARK).write_text("made\n")
    record(lake, "made")
    return lake


def record(lake, session_id):
    with lake.writer() as writer:
        rows = np.zeros(1, row_dtype("trades"))
        session = writer.session("binance_spot", "BTC-USDT", session_id, ("trades",))
        rows["seq"] = session.base["trades"]
        session.append("trades", rows)


def test_a_former_demo_is_cleared_with_scores_made_since(demo):
    record(demo, "score-0-3")
    fresh = fresh_lake(demo.root)
    assert fresh.streams() == []
    assert fresh.root == demo.root


def test_what_no_demo_made_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="no demo's"):
        fresh_lake(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_demo_lake_into_which_somebody_recorded_is_left_alone(demo):
    record(demo, "ingest-1")
    with pytest.raises(FileExistsError, match="session ingest-1 of binance_spot BTC-USDT"):
        fresh_lake(demo.root)
    assert demo.watermark("trades", "binance_spot", "BTC-USDT") == 1


def test_a_demo_lake_that_is_being_written_is_left_alone(demo):
    with demo.writer() as writer:
        writer.session("binance_spot", "BTC-USDT", "made", ("trades",))
        with pytest.raises(FileExistsError, match=f"process {os.getpid()}"):
            fresh_lake(demo.root)
    assert demo.streams()
    assert demo.holders() == []


def test_a_demo_lake_that_is_served_is_left_alone(demo):
    settings = Settings(lake=demo.root)
    settings.logs.mkdir()
    child = Child("prefect", [sys.executable, "-c", "import time; time.sleep(60)"], settings)
    try:
        with pytest.raises(FileExistsError, match=r"tidebook up.*prefect"):
            fresh_lake(demo.root)
    finally:
        child.end()
    assert fresh_lake(demo.root).streams() == []


def test_the_demo_says_so_and_ends_with_three(tmp_path):
    (tmp_path / "mine").touch()
    result = CliRunner().invoke(app, ["demo", "--lake", str(tmp_path), "--quiet"])
    assert result.exit_code == 3
    assert "name another folder with --lake" in result.output.replace("\n", " ")
