from itertools import pairwise

import pytest

from serving.prefect_api import UNFINISHED
from serving.revive import FIRST_S, LONGEST_S, LOOK_S, Revival

INGEST = {"id": "a", "entrypoint": "flows/ingest.py:ingest", "name": "kraken"}


class Told:
    """A server that remembers what was started and tells what it was given."""

    def __init__(self, ended, under_way=()):
        self._ended, self._under_way, self.started = ended, under_way, []

    def runs(self, states):
        assert states == UNFINISHED
        return [{"deployment_id": key, "state_type": "RUNNING"} for key in self._under_way]

    def ended(self, keys):
        if self._ended is None:
            raise OSError("nobody answers")
        return [{"deployment_id": "a", "state_type": state} for state in self._ended]

    def start(self, deployment):
        self.started.append(deployment["id"])


def _looked(server, until_s=1.5 * FIRST_S):
    revival = Revival(server, [INGEST], 0.0)
    return [at for at in range(int(until_s)) if revival.look(float(at)) == ["ingest/kraken"]]


@pytest.mark.parametrize("state", ["CRASHED", "FAILED"])
def test_what_ended_unasked_is_started_once(state):
    server = Told([state, "CANCELLED"])
    assert _looked(server) == [FIRST_S]
    assert server.started == ["a"]


@pytest.mark.parametrize("ended", [["CANCELLED", "CRASHED"], ["COMPLETED"], [], None])
def test_what_was_cancelled_or_cannot_be_read_is_left_alone(ended):
    server = Told(ended)
    assert _looked(server) == server.started == []


def test_what_runs_again_is_left_alone():
    assert _looked(Told(["CRASHED"], under_way=["a"])) == []


def test_what_keeps_crashing_is_started_ever_more_seldom():
    at = _looked(Told(["CRASHED"]), 2000)
    pauses = [b - a for a, b in pairwise(at)]
    assert pauses[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert pauses == sorted(pauses)
    assert pauses[-1] <= LONGEST_S + LOOK_S
