import urllib.request
from pathlib import Path

import pytest

from flows.settings import Settings
from serving.up import up

pytestmark = pytest.mark.prefect


def test_every_batch_flow_is_deployed_and_mlflow_answers(served):
    names = set(served.server.deployments())
    assert names == {f"{flow}/{flow}" for flow in ("normalise", "refresh", "backfill", "retrain", "benchmark", "upkeep")}
    with urllib.request.urlopen(f"{served.settings.mlflow_url}/health", timeout=5) as answer:
        assert answer.status == 200


def test_events_start_refresh_and_benchmark(served):
    found = served.server.call("/automations/filter", {})
    assert {"refresh-on-sealed-partition", "benchmark-on-promotion"} <= {automation["name"] for automation in found}


def test_venues_that_are_not_wanted_are_not_scheduled(served):
    for name, plan in served.server.deployments().items():
        wanted = name.partition("/")[0] not in ("ingest", "live", "normalise")
        assert all(schedule["active"] == wanted for schedule in plan["schedules"]), name


def test_a_second_up_of_the_same_lake_is_refused(served):
    said = []
    assert up(Settings(lake=served.settings.lake), say=said.append) == 1
    assert "already served" in said[-1]


def test_a_port_in_use_is_named(served, tmp_path):
    said = []
    assert up(Settings(lake=tmp_path, prefect_port=served.settings.prefect_port), say=said.append) == 1
    assert "TIDEBOOK_PREFECT_PORT" in said[-1]


def test_everything_of_it_listens_on_loopback_only(served):
    listening = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    ports = {f"{port:04X}" for port in (served.settings.prefect_port, served.settings.mlflow_port)}
    addresses = {row[1].partition(":")[0] for row in listening if row[3] == "0A" and row[1].partition(":")[2] in ports}
    assert addresses == {"0100007F"}


def test_a_run_shows_its_table(served):
    server = served.server
    run = server.start(server.deployments()["upkeep/upkeep"])
    state = served.finished(run)
    assert state["type"] == "COMPLETED", state
    artifacts = server.call("/artifacts/filter", {"artifacts": {"key": {"any_": ["upkeep"]}}})
    assert {artifact["type"] for artifact in artifacts} == {"table"}
    assert (served.settings.lake / "warehouse.duckdb").exists()
