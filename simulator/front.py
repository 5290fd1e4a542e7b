"""A venue's REST side: requests in, the wire's answers out, or the misfortunes of the plan."""

import json
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from simulator import history
from simulator.faults import Dice
from simulator.protocol import Answer, Moment, Request, Wire


class Front:
    """Answers GET and POST.

    Parameters
    ----------
    wire : Wire
    dice : Dice
    tell : callable
        Told of each fault: name and detail.

    Attributes
    ----------
    answers : Counter of int
        Requests by the status they got.
    refusals : tuple of int and float
        How many of the next requests to answer 429, and what `Retry-After` says.
    """

    def __init__(self, wire: Wire, dice: Dice, tell: Callable[[str, str], None]):
        self._wire, self._dice, self._tell = wire, dice, tell
        self.answers: Counter[int] = Counter()
        self.refusals, self._banned_until = (0, 0.0), 0.0

    def answer_get(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        """Return the answer to a GET; None lets a WebSocket open."""
        url = urlsplit(request.path)
        if "Upgrade" in request.headers:
            is_known = self._wire.session(url.path, dict(parse_qsl(url.query))) is not None
            return None if is_known else connection.respond(HTTPStatus.NOT_FOUND, "")
        answer = self.answer("GET", url.path, url.query, b"")
        return Response(answer.status, HTTPStatus(answer.status).phrase, Headers(_headers(answer)), answer.body)

    def answer_post(self, raw: bytes) -> bytes:
        """Return the bytes that answer those of a whole POST request."""
        head, _, body = raw.partition(b"\r\n\r\n")
        url = urlsplit(head.split(b" ", 2)[1].decode(errors="replace"))
        answer = self.answer("POST", url.path, url.query, body)
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", *(f"{k}: {v}" for k, v in _headers(answer).items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + answer.body

    def answer(self, method: str, path: str, query: str, body: bytes) -> Answer:
        """Return what the venue answers, and count it."""
        now_ns = min(desk.now_ns for desk in self._wire.desks.values())
        request = Request(method, path, dict(parse_qsl(query)), body, Moment(now_ns, time.time()))
        answer = self._misfortune() or history.answer(self._wire, request) or self._ask(request)
        self.answers[answer.status] += 1
        return answer

    def _misfortune(self) -> Answer | None:
        now_s, plan = time.monotonic(), self._dice.plan
        if now_s < self._banned_until:
            return self._wire.refusal(418, self._banned_until - now_s)
        if self.refusals[0]:
            self.refusals = (self.refusals[0] - 1, self.refusals[1])
            return self._wire.refusal(429, self.refusals[1])
        if self._dice.take("ban"):
            self._banned_until = now_s + plan.ban_s
            self._tell("ban", f"{plan.ban_s} s")
            return self._wire.refusal(418, plan.ban_s)
        if self._dice.take("limit"):
            self._tell("limit", f"{plan.retry_s} s")
            return self._wire.refusal(429, plan.retry_s)
        return None

    def _ask(self, request: Request) -> Answer:
        is_stale = self._dice.take("stale")
        for desk in self._wire.desks.values():
            desk.serves_old = is_stale
        answer = self._wire.rest(request)
        if is_stale:
            if all(desk.serves_old for desk in self._wire.desks.values()):
                self._dice.armed["stale"] += 1  # no book was asked for: the next request shall have it
            else:
                self._tell("stale", request.path + "?" + json.dumps(dict(request.query)))
        return answer


def _headers(answer: Answer) -> dict[str, str]:
    fixed = {"Content-Type": "application/json", "Content-Length": str(len(answer.body)), "Connection": "close"}
    return fixed | dict(answer.headers)
