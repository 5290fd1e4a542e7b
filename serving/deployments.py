"""Which deployments of `prefect.yaml` one lake needs, and which of their schedules run."""

from typing import Any

import yaml

from flows.settings import HOME, Settings
from serving.prefect_api import PrefectServer


def names(settings: Settings) -> list[str]:
    """Return the deployments to make, as `flow/name`: the batch flows, and of the standing ones those of recorded venues.

    Each costs half a second at every start; the rest of the file can be deployed by hand with
    `prefect deploy --all`.
    """
    plans: list[dict[str, Any]] = yaml.safe_load((HOME / "prefect.yaml").read_text())["deployments"]
    return [
        f"{plan['entrypoint'].partition(':')[2]}/{plan['name']}"
        for plan in plans
        if plan.get("parameters", {}).get("venue") in (None, *settings.streams)
    ]


def match_schedules(settings: Settings, server: PrefectServer) -> list[dict]:
    """Switch the schedules of each venue's standing flows to what is wanted; return those wanted."""
    standing = ("ingest", "live") if settings.score else ("ingest",)
    wanted = []
    for name, deployment in server.deployments().items():
        venue = (deployment["parameters"] or {}).get("venue")
        if venue is not None:
            is_wanted = venue in settings.streams and name.partition("/")[0] in standing
            server.keep_schedules(deployment, is_wanted)
            wanted += [deployment] * is_wanted
        elif name.partition("/")[0] == "normalise":
            server.keep_schedules(deployment, len(settings.streams) > 1)
            wanted += [deployment] * (len(settings.streams) > 1)
    return wanted
