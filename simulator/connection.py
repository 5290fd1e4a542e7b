"""One client's connection: what it is sent, in order, and what goes wrong on the way."""

import asyncio
import time
from collections.abc import Callable, Sequence

from websockets.asyncio.server import Server, ServerConnection
from websockets.protocol import State

from simulator.faults import MESSAGE, Dice
from simulator.protocol import Reply, Session


def frame(text: str) -> bytes:
    """Return a text message as a server writes it: one unmasked, final frame (RFC 6455, 5.2)."""
    body = text.encode()
    size = len(body)
    if size < 126:
        return bytes((0x81, size)) + body
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + body
    return b"\x81\x7f" + size.to_bytes(8, "big") + body


class Socket(ServerConnection):
    """A WebSocket connection that also answers a POST, which the library refuses (Hyperliquid asks so)."""

    def __init__(self, answer_post: Callable[[bytes], bytes], protocol: object, server: Server, **options: float | None):
        super().__init__(protocol, server, **options)  # type: ignore[arg-type]
        self._answer_post = answer_post
        self._posted: bytes | None = None
        self._is_new = True

    def data_received(self, data: bytes) -> None:
        """Take bytes from the network: of a WebSocket or a GET as the library does, of a POST whole."""
        if self._is_new:
            self._is_new = False
            self._posted = b"" if data.startswith(b"POST ") else None
        if self._posted is None:
            super().data_received(data)
            return
        self._posted += data
        head, separator, body = self._posted.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        if separator and len(body) >= length:
            self.transport.write(self._answer_post(self._posted))
            self.transport.close()


class Client:
    """A connection, its session, and the bytes that wait for the end of the beat.

    Parameters
    ----------
    socket : ServerConnection
    session : Session
        The venue's state of it.
    dice : Dice
        What goes wrong.
    number : int
        The how many-th of the venue.
    tell : callable
        Told of each fault: name, connection, stream and detail.
    """

    def __init__(
        self, socket: ServerConnection, session: Session, dice: Dice, number: int, tell: Callable[[str, "Client", str, str], None]
    ):
        self.socket, self.session, self.number = socket, session, number
        self._dice, self._tell = dice, tell
        self.out: list[bytes] = []
        self.due: dict[str, None] = {}  # streams that wait for their snapshot
        self._late: list[tuple[set[str], Sequence[str]]] = []
        self._after: list[bytes] = []  # frames that go behind the next one
        self._held_until_s = 0.0
        self._held: list[bytes] = []
        self.silent: dict[str, float] = {}  # stream -> until when
        self.is_half_open = False
        self.opened_s = self.sent_s = self.heard_s = time.monotonic()

    @property
    def is_bothered(self) -> bool:
        """Return whether something is already wrong here, so that its messages need a look."""
        return bool(self.silent or self._after)

    @property
    def is_open(self) -> bool:
        """Return whether anything can still be sent."""
        return self.socket.protocol.state is State.OPEN and not self.socket.transport.is_closing()

    def reply(self, reply: Reply) -> None:
        """Send what the session says; what waits for snapshots is kept until `served`."""
        self.out += [frame(self.session.seal("", text)) for text in reply.frames]
        self.due |= dict.fromkeys(reply.snapshots)
        if reply.late:
            self._late.append((set(reply.snapshots), reply.late))
            self.served("")
        if reply.close[0]:
            self.flush(time.monotonic())
            self.close(*reply.close)

    def served(self, stream: str) -> None:
        """Take note that a stream began, and send what waited for that."""
        self.due.pop(stream, None)
        for waits, _ in self._late:
            waits.discard(stream)
        for _, texts in [late for late in self._late if not late[0]]:
            self.out += [frame(self.session.seal("", text)) for text in texts]
        self._late = [late for late in self._late if late[0]]

    def send(self, stream: str, text: str, may: dict[str, object]) -> None:
        """Send a sealed text of a stream; or lose it, or spoil it, as the dice say."""
        if self.silent and self.silent.get(stream, 0.0) > time.monotonic():
            return
        dice = self._dice
        fault = dice.message(may) if dice.bothers_messages else ""
        if not fault:
            self.out.append(frame(text))
        else:
            self._spoil(fault, stream, text, may)
            return
        if self._after:
            self.out += self._after
            self._after = []

    def _spoil(self, fault: str, stream: str, text: str, may: dict[str, object]) -> None:
        dice, after, self._after = self._dice, self._after, []
        changed = text
        if fault == "corrupt":
            changed = dice.corrupt(text)
        elif fault == "truncate":
            changed = dice.truncate(text)
        elif fault in ("checksum", "sequence"):
            changed = dice.spoil(text, may[fault])  # type: ignore[arg-type]
        if fault in ("corrupt", "checksum", "sequence") and changed == text:
            fault = ""  # nothing there that could be changed
        if fault == "reorder":
            self._after = [frame(text)]
        elif fault == "delay":
            self._held_until_s = time.monotonic() + dice.plan.delay_ms / 1e3
            self.flush(self._held_until_s - 1.0, is_held=False)
        if fault not in ("drop", "reorder"):
            self.out += [frame(changed)] * (2 if fault == "duplicate" else 1)
        self.out += after
        if fault:
            at = next((i for i, (a, b) in enumerate(zip(text, changed, strict=False)) if a != b), len(changed))
            detail = f"{text[max(0, at - 20) : at + 20]} -> {changed[max(0, at - 20) : at + 20]}" if changed != text else text[:60]
            self._tell(fault, self, stream, detail)

    def flush(self, now_s: float, is_held: bool = True) -> int:
        """Write what waits, unless it is held back, and return how many frames."""
        if is_held and now_s < self._held_until_s:
            self._held += self.out
            self.out = []
            return 0
        waiting = self._held + self.out
        self._held, self.out = [], []
        if not waiting or self.is_half_open or not self.is_open:
            return 0
        self.socket.transport.write(b"".join(waiting))
        self.sent_s = time.monotonic()
        return len(waiting)

    def go_half_open(self) -> None:
        """Say nothing more and read nothing more, with the connection still standing."""
        self.is_half_open = True
        self.socket.transport.pause_reading()  # type: ignore[attr-defined]

    def close(self, code: int, reason: str = "") -> None:
        """Close with a code; 1006, which no frame can carry, cuts the connection."""
        if code == 1006:
            self.socket.transport.abort()
        else:
            task = asyncio.ensure_future(self.socket.close(code, reason))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())


def possible(spoil: dict[str, object]) -> dict[str, object]:
    """Return the message faults that a venue can have, with the pattern of what they change."""
    return {name: spoil.get(name) for name in MESSAGE if name not in ("checksum", "sequence") or name in spoil}
