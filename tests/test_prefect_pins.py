"""Versions that run Prefect 3.8.8: a plain resolve picks others, and one of them fails in silence."""

import time
import tomllib
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from flows.settings import HOME

PINS = {need.name: need for need in map(Requirement, tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["dependencies"])}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        # 0.151 answers 422 to JSON nulls, 0.155 breaks the server at import.
        ("fastapi", "0.150.0", ("0.151.0", "0.155.0", "0.165.0")),
        # 2.1 creates no scheduled run, ever, and says so only in a log.
        ("sqlalchemy", "2.0.58", ("2.1.0", "2.1.9")),
        ("prefect", "3.8.8", ("3.9.0",)),
    ],
)
def test_pins_keep_out_what_breaks(name, good, bad):
    assert PINS[name].specifier.contains(good)
    assert not any(PINS[name].specifier.contains(wrong) for wrong in bad)
    assert PINS[name].specifier.contains(Version(version(name)))


@pytest.mark.prefect
def test_a_deployed_cron_schedule_creates_scheduled_runs(served):
    deployments = served.server.deployments()
    cron = {name for name, plan in deployments.items() if any("cron" in schedule["schedule"] for schedule in plan["schedules"])}
    assert {"retrain/retrain", "benchmark/benchmark", "upkeep/upkeep"} <= cron
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        scheduled = {run["deployment_id"] for run in served.server.runs(["SCHEDULED"])}
        if all(deployments[name]["id"] in scheduled for name in cron):
            return
        time.sleep(0.3)
    pytest.fail(f"no scheduled runs of {[name for name in cron if deployments[name]['id'] not in scheduled]}")
