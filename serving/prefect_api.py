"""The few questions and orders for a local Prefect server, over plain HTTP.

No Prefect import: that takes a second and more, and `tidebook up` should print at once.
"""

import json
import time
import urllib.error
import urllib.request
from typing import Any

from flows.settings import POOL

BUSY = 503  # SQLite was locked: the server says so instead of waiting
PATIENCE_S = 20.0  # on a busy machine SQLite keeps the server waiting for itself
UNFINISHED = ["RUNNING", "PENDING", "CANCELLING"]
FINAL = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


class PrefectServer:
    """One server's address and what we say to it.  OSError where nobody answers."""

    def __init__(self, url: str, timeout_s: float = PATIENCE_S):
        self.api = f"{url}/api"
        self.timeout_s = timeout_s

    def call(self, path: str, body: dict | None = None, method: str | None = None) -> Any:
        """Return the decoded answer; a GET without a body, a POST with one unless told otherwise."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.api + path, data=data, headers={"content-type": "application/json"}, method=method)
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as error:
                if error.code != BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def answers(self, path: str = "/health") -> bool:
        """Return whether `path` can be read."""
        try:
            self.call(path)
        except (OSError, ValueError):
            return False
        return True

    def runs(self, states: list[str]) -> list[dict]:
        """Return the runs of our pool in any of these states, newest schedule first."""
        return self.call(
            "/flow_runs/filter",
            {
                "flow_runs": {"state": {"type": {"any_": states}}},
                "work_pools": {"name": {"any_": [POOL]}},
                "sort": "EXPECTED_START_TIME_DESC",
                "limit": 200,
            },
        )

    def ended(self, deployment_ids: list[str]) -> list[dict]:
        """Return what ended of these deployments, the last first."""
        return self.call(
            "/flow_runs/filter",
            {
                "flow_runs": {"state": {"type": {"any_": FINAL}}},
                "deployments": {"id": {"any_": deployment_ids}},
                "sort": "END_TIME_DESC",
                "limit": 200,
            },
        )

    def set_state(self, run: dict, kind: str, message: str, force: bool = False) -> None:
        """Move one run to a state."""
        self.call(f"/flow_runs/{run['id']}/set_state", {"state": {"type": kind, "message": message}, "force": force})

    def pause_pool(self, paused: bool) -> None:
        """Let the worker take runs, or not."""
        self.call(f"/work_pools/{POOL}", {"is_paused": paused}, "PATCH")

    def deployments(self) -> dict[str, dict]:
        """Return our deployments by `flow/deployment`."""
        found = self.call("/deployments/filter", {"work_pools": {"name": {"any_": [POOL]}}, "limit": 200})
        return {name_of(deployment): deployment for deployment in found}

    def start(self, deployment: dict) -> dict:
        """Return a new run of a deployment, to start now."""
        return self.call(f"/deployments/{deployment['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})

    def keep_schedules(self, deployment: dict, active: bool) -> None:
        """Switch all schedules of one deployment on or off."""
        for schedule in deployment["schedules"]:
            if schedule["active"] != active:
                self.call(f"/deployments/{deployment['id']}/schedules/{schedule['id']}", {"active": active}, "PATCH")


def name_of(deployment: dict) -> str:
    """Return `flow/deployment`.

    Examples
    --------
    >>> name_of({"entrypoint": "flows/ingest.py:ingest", "name": "kraken"})
    'ingest/kraken'
    """
    return f"{deployment['entrypoint'].rpartition(':')[2]}/{deployment['name']}"
