"""What the plan does to whole connections and to the venue: faults that no message carries."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.venue_server import VenueServer


def befall(server: "VenueServer", elapsed_s: float) -> None:
    """Let happen what is due by a time since the start: one fault at most, to a connection that listens."""
    dice, plan = server.dice, server.plan
    dice.turn(elapsed_s)
    armed = dice.armed
    if not (armed["close"] or armed["half_open"] or armed["silent"] or armed["restart"]):
        return
    if armed["restart"]:
        armed["restart"] -= 1
        server.restart()
        return
    listening = sorted((c for c in server.clients if c.is_open and not c.is_half_open and c.session.streams), key=lambda c: c.number)
    if not listening:
        return
    client = dice.random.choice(listening)
    if armed["close"]:
        code = dice.random.choice(plan.close_codes)
        armed["close"] -= 1
        client.close(code, "simulated")
        server.tell("close", client, "", str(code))
    elif armed["half_open"]:
        armed["half_open"] -= 1
        client.go_half_open()
        server.seat()
        server.tell("half_open", client, "", "")
    else:
        armed["silent"] -= 1
        stream = dice.random.choice(list(client.session.streams))
        client.silent[stream] = time.monotonic() + plan.silent_s
        server.tell("silent", client, stream, f"{plan.silent_s} s")
