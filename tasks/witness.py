"""Ask the venue, now and then, for its own book of each symbol, and doubt ours where it differs."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from tasks.feed.rest import AskedTooMuchError, RequestFailedError, Rest
from tasks.feed.terms import Endpoints
from tasks.feed.witness import Difference, UnreadableBookError, differences, read_book
from tasks.venues import directory
from warehouse.schema import WITNESS

logger = logging.getLogger(__name__)
MARGIN_S = 1.0  # how far a venue's REST book may be from its stream
AT_ONCE = 8  # symbols that are asked about side by side: one takes 2 s and the answer's time, 11 s where it disagrees
AGAIN_S = 5.0  # a first disagreement is held against a second witness after this


async def witness(
    recorder: Any, where: Endpoints, rest: Rest, every_s: float, raw_symbols: Sequence[str], margin_s: float = MARGIN_S,
    again_s: float = AGAIN_S,
) -> None:  # fmt: skip
    """Compare every symbol's book with the venue's, each every `every_s` seconds, until cancelled.

    Twice the same disagreement is a finding about the stretch since the last agreement, and the book
    begins anew.  The budget of requests is the only bound: a book that never
    comes silences nobody's witness.

    Parameters
    ----------
    recorder : tasks.recorder.Recorder
        With a watch.
    """
    wire, room = directory.wire(recorder.venue), asyncio.Semaphore(AT_ONCE)

    async def keep(symbol: str, first_s: float) -> None:
        url, weight = wire.witness_url(symbol, where.rest_url)
        agreed_ns = time.time_ns()
        await asyncio.sleep(first_s)
        while url:
            next_s = time.monotonic() + every_s
            if recorder.stream(symbol).adapter.is_live:
                async with room:
                    agreed_ns = await _look(recorder, rest, symbol, url, weight, margin_s, again_s, agreed_ns)
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))

    await asyncio.gather(*(keep(symbol, every_s * (k + 1) / len(raw_symbols)) for k, symbol in enumerate(raw_symbols)))


async def _look(
    recorder: Any, rest: Rest, symbol: str, url: str, weight: float, margin_s: float, again_s: float, agreed_ns: int
) -> int:  # fmt: skip
    # When the book was last known to agree, on our clock.
    began_ns = time.time_ns()
    wrong = await ask(recorder, rest, symbol, url, weight, margin_s)
    if wrong:
        await asyncio.sleep(again_s)
        again = await ask(recorder, rest, symbol, url, weight, margin_s)
        wrong = [one for one in wrong if one in (again or ())] if again is not None else None
    if wrong:
        tell(recorder, symbol, agreed_ns, wrong)
    return agreed_ns if wrong is None else began_ns


async def ask(recorder: Any, rest: Rest, symbol: str, url: str, weight: float, margin_s: float) -> list[Difference] | None:
    """Return the levels at which a symbol's book and the venue's own cannot both be right; None where nothing can be said."""
    if not rest.may_ask(weight):
        return None
    recorder.listen(symbol, True)
    await asyncio.sleep(margin_s)
    try:
        book = read_book(await rest.get(url))
        await asyncio.sleep(margin_s)
    except (AskedTooMuchError, RequestFailedError, UnreadableBookError) as error:
        logger.warning("witness of %s: %s", symbol, error)
        return None
    finally:
        rows = recorder.listen(symbol, False)
    if rows is None or not rows.size:
        return None
    told = recorder.instruments.get(symbol)
    return differences(rows, book, told.contract_base if told else 1.0)


def tell(recorder: Any, raw_symbol: str, since_ns: int, wrong: Sequence[Difference]) -> None:
    """Write that a book was wrong since some moment on our clock, and let it begin anew."""
    now_ns = time.time_ns()
    text = "; ".join(str(one) for one in wrong[:5])
    logger.warning("%s %s: the venue's own book says otherwise: %s", recorder.venue, raw_symbol, text)
    ahead_ns = recorder.watch.ahead_ns()
    recorder.watch.find(raw_symbol, WITNESS, since_ns + ahead_ns, now_ns + ahead_ns, text, wrong[0].theirs, wrong[0].ours)
    recorder.lose(raw_symbol, now_ns)
