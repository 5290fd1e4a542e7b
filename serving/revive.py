"""Standing flows that ended unasked, started again: the schedule alone takes up to five minutes.

A run that crashed or failed is followed by a new one at the next look, then after 20 s, 40 s and
so on up to what the schedule takes anyway.  A run that somebody cancelled is left to the schedule.
"""

import time

from serving.prefect_api import UNFINISHED, PrefectServer, name_of

LOOK_S = 5.0
FIRST_S, LONGEST_S = 20.0, 300.0  # between two restarts of one deployment
UNASKED = ("CRASHED", "FAILED")


class Revival:
    """Looks after some deployments, one look at a time.

    Parameters
    ----------
    wanted : list of dict
        Deployments as the server tells them.
    began_s : float
        When their first runs were started, on the monotonic clock.
    """

    def __init__(self, server: PrefectServer, wanted: list[dict], began_s: float):
        self._server, self._wanted = server, {deployment["id"]: deployment for deployment in wanted}
        self._look_s = began_s + FIRST_S  # a first run that is about to begin is not seen yet
        self._next: dict[str, tuple[float, float]] = {}  # deployment: not before, and the pause after that

    def look(self, now_s: float | None = None) -> list[str]:
        """Start what ended unasked; return the names.  Empty where the server does not answer."""
        now_s = time.monotonic() if now_s is None else now_s
        if not self._wanted or now_s < self._look_s:
            return []
        self._look_s = now_s + LOOK_S
        try:
            runs = self._server.runs(UNFINISHED) + self._server.ended(list(self._wanted))
            due = [key for key in ended_unasked(runs) if self._may(key, now_s)]
            for key in due:
                self._server.start(self._wanted[key])
        except (OSError, ValueError):
            return []
        return [name_of(self._wanted[key]) for key in due]

    def _may(self, key: str, now_s: float) -> bool:
        not_before_s, pause_s = self._next.get(key, (0.0, FIRST_S))
        if now_s < not_before_s:
            return False
        if now_s > not_before_s + LONGEST_S:
            pause_s = FIRST_S  # it had stood for long
        self._next[key] = (now_s + pause_s, min(LONGEST_S, 2.0 * pause_s))
        return True


def ended_unasked(runs: list[dict]) -> list[str]:
    """Return deployments whose latest run crashed or failed, and none of whose runs is under way.

    Parameters
    ----------
    runs : list of dict
        As the server tells them, those that ended last first, without those that are yet to come.

    Examples
    --------
    >>> a, b = {"deployment_id": "a", "state_type": "CRASHED"}, {"deployment_id": "b", "state_type": "CANCELLED"}
    >>> ended_unasked([a, b]), ended_unasked([a, {**a, "state_type": "RUNNING"}])
    (['a'], [])
    """
    under_way = {run["deployment_id"] for run in runs if run["state_type"] in UNFINISHED}
    latest: dict[str, str] = {}
    for run in runs:
        latest.setdefault(run["deployment_id"], run["state_type"])
    return [key for key, state in latest.items() if state in UNASKED and key not in under_way]
