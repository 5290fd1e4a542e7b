"""The flow itself, its runs and tasks, under a real Prefect server."""

import subprocess
import sys

import pytest

from flows.settings import HOME, Settings
from tests.streams import KINDS, market
from warehouse.lake import Lake

pytestmark = [pytest.mark.prefect, pytest.mark.slow]
VENUES, SYMBOL, DAY = ("binance_usdm", "bybit_linear"), "BTC-USDT-PERP", "2024-08-09"
RUN = """
from flows.refresh import refresh
if __name__ == "__main__":
    print(repr(refresh(return_state=True)))
"""


def test_streams_are_tasks_of_one_run(served, tmp_path):
    lake = Lake(tmp_path)
    with lake.writer() as writer:
        for seed, venue in enumerate(VENUES):
            session = writer.session(venue, SYMBOL, "one", KINDS)
            for table, rows in zip(KINDS, market(seed, 600, start_ns=1_723_200_000_000_000_000), strict=True):
                rows["seq"], rows["receive_ns"] = range(rows.size), rows["exchange_ns"]
                session.append(table, rows)
        writer.commit()
    (tmp_path / "prefect").mkdir()
    settings = Settings(lake=tmp_path, prefect_port=served.settings.prefect_port)
    script = tmp_path / "run.py"
    script.write_text(RUN)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=HOME, env=settings.environment() | {"PYTHONPATH": str(HOME)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert "3 partitions, 0 of them invalid" in done.stdout, done.stdout + done.stderr
    flow = served.server.call("/flows/filter", {"flows": {"name": {"any_": ["refresh"]}}})[0]["id"]
    runs = served.server.call("/flow_runs/filter", {"flows": {"id": {"any_": [flow]}}, "sort": "START_TIME_DESC", "limit": 20})
    names = []
    for run in runs:
        tasks = served.server.call("/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
        names += [task["name"] for task in tasks if task["state"]["type"] == "COMPLETED"]
    for venue in VENUES:
        assert {f"{verb} {venue} {SYMBOL} {DAY}" for verb in ("validate", "featurize", "label")} <= set(names)
        assert lake.manifest("labels", venue, SYMBOL, DAY)["rows"] > 0
    assert any(name.startswith("between venues") for name in names)
    assert lake.manifest("consolidated", "all", "BTC", DAY)["rows"] > 0
