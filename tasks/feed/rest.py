"""Requests to a venue within its budget of weight: who may ask now, and who must wait."""

import asyncio
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from urllib.error import HTTPError

FIRST_BLOCK_S = {403: 600.0, 418: 120.0, 429: 60.0}  # where the venue does not say; Bybit's 403 lasts ten minutes
BUDGET_CODES = tuple(FIRST_BLOCK_S)


class AskedTooMuchError(Exception):
    """The venue refuses everybody at this address for a while."""

    def __init__(self, url: str, status: int, pause_s: float):
        self.status, self.pause_s = status, pause_s
        super().__init__(f"{url} answered {status}: nobody asks for {pause_s:.0f} s")


class RequestFailedError(Exception):
    """One request came to nothing."""

    def __init__(self, url: str, status: int, reason: object, pause_s: float = 0.0):
        self.url, self.status, self.pause_s = url, status, pause_s
        super().__init__(f"{url}: {reason}")


class Budget:
    """Weight used over a sliding window; never more than the limit in any window, wherever the venue's own begins.

    Parameters
    ----------
    limit : float
        Weight that may be used in a window; 0 for no limit.
    window_s : float

    Examples
    --------
    >>> budget = Budget(100.0, 60.0)
    >>> budget.wait_s(0.0, 60.0), budget.wait_s(1.0, 60.0)
    (0.0, 59.0)
    >>> budget.wait_s(61.0, 60.0)
    0.0
    """

    def __init__(self, limit: float, window_s: float):
        self.limit, self.window_s = limit, window_s
        self._spent: deque[tuple[float, float]] = deque()
        self._sum, self._blocked_s = 0.0, 0.0

    def wait_s(self, now_s: float, weight: float) -> float:
        """Spend `weight` and return 0, or return how long to wait before asking again."""
        while self._spent and now_s - self._spent[0][0] >= self.window_s:
            self._sum -= self._spent.popleft()[1]
        if now_s < self._blocked_s:
            return self._blocked_s - now_s
        if self.limit and self._spent and self._sum + weight > self.limit:
            return self._until_free(now_s, weight)
        self._spent.append((now_s, weight))
        self._sum += weight
        return 0.0

    def _until_free(self, now_s: float, weight: float) -> float:
        freed = self._sum + weight - self.limit
        for at_s, spent in self._spent:
            freed -= spent
            if freed <= 0:
                return at_s + self.window_s - now_s
        return self._spent[-1][0] + self.window_s - now_s

    def block(self, until_s: float) -> None:
        """Let nobody ask before `until_s`."""
        self._blocked_s = max(self._blocked_s, until_s)

    def blocked_s(self, now_s: float) -> float:
        """Return for how long nobody may ask."""
        return max(0.0, self._blocked_s - now_s)


class Rest:
    """A venue's REST side, asked by several parts of a feed under one budget."""

    def __init__(self, budget: Budget, timeout_s: float):
        self.budget, self._timeout_s = budget, timeout_s
        self.requests = 0

    def may_ask(self, weight: float) -> bool:
        """Spend weight if there is any to spend now."""
        return self.budget.wait_s(time.monotonic(), weight) == 0.0

    async def get(self, url: str) -> bytes:
        """Return the body of an answer; the weight was spent before.

        Raises
        ------
        AskedTooMuchError
            429, 418 or 403: from now on `may_ask` says no to everybody until the venue's time is over.
        RequestFailedError
            Anything else; `status` 0 where there was no answer.
        """
        self.requests += 1
        try:
            return await in_thread(_get, url, self._timeout_s)
        except HTTPError as error:
            error.close()
            told = error.headers.get("Retry-After", "")
            told_s = float(told) if told.isdigit() else 0.0
            if error.code in BUDGET_CODES:
                pause_s = told_s or FIRST_BLOCK_S[error.code]
                self.budget.block(time.monotonic() + pause_s)
                raise AskedTooMuchError(url, error.code, pause_s) from error
            raise RequestFailedError(url, error.code, error, told_s) from error
        except (OSError, HTTPException, ValueError) as error:
            raise RequestFailedError(url, 0, error) from error


async def in_thread(work: Callable[..., bytes], *given: object) -> bytes:
    """Return what `work(*given)` gives, in a thread that nobody waits for when the process ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def settle(result: bytes, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def run() -> None:
        result, failure = b"", None
        try:
            result = work(*given)
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # nobody waits any more: the loop is closed
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="request", daemon=True).start()
    return await done


def _get(url: str, timeout_s: float) -> bytes:
    # A proxy is for the venue, never for a server on this machine.
    handlers = [urllib.request.ProxyHandler({})] if url.startswith("http:") else []
    # Coinbase refuses requests that do not say who asks.
    headers = {"User-Agent": "tidebook", "Accept": "application/json"}
    url, _, body = url.partition("#")  # Hyperliquid answers nothing but posts
    if body:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, body.encode() or None, headers)
    with urllib.request.build_opener(*handlers).open(request, timeout=timeout_s) as answer:
        return bytes(answer.read())
