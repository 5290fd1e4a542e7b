"""What prefect.yaml promises is there: flows that import, parameters that they take."""

import importlib
import inspect

import pytest
import yaml

from flows.settings import HOME, POOL
from tasks import notify

PLAN = yaml.safe_load((HOME / "prefect.yaml").read_text())
DEPLOYMENTS = [pytest.param(plan, id=f"{plan['entrypoint']}-{plan['name']}") for plan in PLAN["deployments"]]


def _flow(plan):
    path, _, name = plan["entrypoint"].partition(":")
    return getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)


@pytest.mark.parametrize("plan", DEPLOYMENTS)
def test_entrypoint_imports_and_takes_the_parameters(plan):
    flow = _flow(plan)
    known = inspect.signature(flow.fn).parameters
    given = plan.get("parameters", {})
    assert set(given) <= set(known)
    assert all(name in given for name, parameter in known.items() if parameter.default is inspect.Parameter.empty)
    flow.validate_parameters(given)


@pytest.mark.parametrize("plan", DEPLOYMENTS)
def test_triggers_name_events_that_are_sent_and_parameters_that_are_taken(plan):
    known = inspect.signature(_flow(plan).fn).parameters
    for trigger in plan.get("triggers", []):
        assert set(trigger["expect"]) <= {notify.SEALED, notify.PROMOTED}
        assert set(trigger.get("parameters", {})) <= set(known)


@pytest.mark.parametrize("plan", DEPLOYMENTS)
def test_every_deployment_runs_in_our_pool_on_a_schedule_one_at_a_time(plan):
    assert plan["work_pool"]["name"] == POOL
    assert plan["schedules"]
    assert plan["concurrency_limit"] == 1 or plan["concurrency_limit"]["limit"] == 1
    for schedule in plan["schedules"]:
        assert schedule["timezone"] == "UTC"
        # Without an anchor each deploy moves an interval, and a daily `up` could skip it for ever.
        assert "cron" in schedule or "anchor_date" in schedule


def test_every_flow_is_deployed():
    deployed = {plan["entrypoint"].partition(":")[0] for plan in PLAN["deployments"]}
    flows = {path.relative_to(HOME).as_posix() for path in (HOME / "flows").glob("*.py") if "@flow" in path.read_text()}
    assert flows == deployed


def test_no_path_of_a_machine_is_deployed():
    assert PLAN["pull"] == [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $TIDEBOOK_HOME }}"}}]
