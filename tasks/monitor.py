"""What people see of a run in the Prefect UI: progress, tables, links and text.

Nothing here is awaited and nothing raises: a call leaves its artifact with one background
thread and returns.  A server that is down or slow costs artifacts, never a row of data.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.runtime import flow_run

log = logging.getLogger(__name__)
WAITING = 64  # artifacts kept for a server that is away; later ones are dropped
PATIENCE_S = 20.0  # for one artifact
_outbox: queue.Queue[tuple[Context, Callable[[], Coroutine]]] = queue.Queue(WAITING)
_postman = threading.Lock()
_progress_ids: dict[str, UUID] = {}


def progress(key: str, percent: float, description: str = "") -> None:
    """Show how far a run is; an endless run shows what it has done in `description`."""
    _post(partial(_progress, key, percent, description), key)


def table(key: str, rows: list[dict[str, Any]], description: str = "") -> None:
    """Show rows of plain values."""
    _post(partial(acreate_table_artifact, table=rows, key=_legal(key), description=description), key)


def link(key: str, address: str, text: str, description: str = "") -> None:
    """Show an address to follow."""
    _post(partial(acreate_link_artifact, link=address, link_text=text, key=_legal(key), description=description), key)


def markdown(key: str, text: str, description: str = "") -> None:
    """Show formatted text."""
    _post(partial(acreate_markdown_artifact, markdown=text, key=_legal(key), description=description), key)


def flush(within_s: float = 3.0) -> bool:
    """Wait a moment for what is still unsent; False if something stayed behind."""
    deadline = time.monotonic() + within_s
    while _outbox.unfinished_tasks and time.monotonic() < deadline:
        time.sleep(0.02)
    return not _outbox.unfinished_tasks


async def _progress(key: str, percent: float, description: str) -> None:
    run_key = f"{flow_run.id}-{key}"
    if run_key in _progress_ids:
        await aupdate_progress_artifact(_progress_ids[run_key], progress=percent, description=description)
    else:
        _progress_ids[run_key] = await acreate_progress_artifact(progress=percent, key=_legal(key), description=description)


def _legal(key: str) -> str:
    """Return `key` in the letters that Prefect allows: a-z, 0-9 and dashes."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in key.lower())


def _post(make: Callable[[], Coroutine], key: str) -> None:
    if not flow_run.id:  # called from a shell: there is no run to show it on
        return
    if _postman.acquire(blocking=False):  # held for the life of the process
        threading.Thread(target=_deliver, name="artifacts", daemon=True).start()
    try:
        # The copied context carries the run that the artifact belongs to into the thread.
        _outbox.put_nowait((copy_context(), make))
    except queue.Full:
        log.warning("artifact %s dropped: the Prefect server has not taken the %d before it", key, WAITING)


def _deliver() -> None:
    with asyncio.Runner() as runner:
        while True:
            context, make = _outbox.get()
            try:
                runner.run(_send(make), context=context)
            except Exception as error:
                log.warning("artifact not shown: %s: %s", type(error).__name__, error)
            finally:
                _outbox.task_done()


async def _send(make: Callable[[], Coroutine]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await make()
