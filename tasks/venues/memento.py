"""What an adapter knows, as bytes, so that a capture can be taken up in the middle.

Made of plain values only: nothing in it is run when it is read.  It is put into an adapter that
was made anew, in place, so that views, addresses and callables stay those of the new one.
"""

import logging
import zlib
from collections import deque
from collections.abc import Callable
from importlib import import_module
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from tasks.venues.book import BOOK, hold

logger = logging.getLogger(__name__)
_OURS = "tasks.venues."
_ADDRESS = "_address"  # of memory: it is the new adapter's own
_SEQUENCES: dict[str, Callable[[Any], Any]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque}
_KEEP = ["keep"]  # stays what it is in the new adapter


class StateError(Exception):
    """A state that does not fit: made by other code, or something in it is of no kind that can be kept."""

    def __init__(self, what: str, expected: str, received: object):
        self.what, self.expected, self.received = what, expected, received
        super().__init__(f"the state of {what} must be {expected}, received {received}; replay the run from its beginning")


def saved(adapter: Any) -> bytes:
    """Return what an adapter knows, or nothing, which is logged, if something in it cannot be kept."""
    try:
        return save(adapter)
    except StateError as error:
        logger.warning("no state kept: %s", error)
        return b""


def save(adapter: Any) -> bytes:
    """Return what an adapter knows.

    Raises
    ------
    StateError
        If an attribute is of a kind that cannot be kept.

    Examples
    --------
    >>> from tasks.venues.ladder import Ladder
    >>> first, second = Ladder("BTC/USD", "BTC-USD"), Ladder("BTC/USD", "BTC-USD")
    >>> first.read([("100.1", "2")], [("100.2", "0.5")], b"")
    >>> first.replace()
    >>> _ = list(first.publish(5, 6, 1))
    >>> restore(second, save(first))
    >>> second.row["bid_px"][0, 0], second.is_live
    (np.float64(100.1), True)
    """
    return msgspec.msgpack.encode(_kept(adapter, type(adapter).__name__, set()))


def restore(adapter: Any, state: bytes) -> None:
    """Make an adapter know what another one knew; it must have been made for the same instrument.

    Raises
    ------
    StateError
        If the state is of another kind of adapter, of other code, or cut.
    """
    try:
        node = msgspec.msgpack.decode(state)
    except msgspec.DecodeError as error:
        raise StateError(type(adapter).__name__, "whole", error) from None
    if not (isinstance(node, list) and node[0] == "object" and node[1] == _name(type(adapter))):
        raise StateError(type(adapter).__name__, f"that of {_name(type(adapter))}", node[1] if isinstance(node, list) else node)
    _put(adapter, node, type(adapter).__name__)


def _kept(value: Any, what: str, above: set[int]) -> list[Any]:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | float | str | bytes):
        return ["plain", value]
    if isinstance(value, int):
        return ["plain", value] if -(1 << 63) <= value < 1 << 63 else ["int", str(value)]
    if isinstance(value, np.ndarray):
        return _KEEP if isinstance(value.base, np.ndarray) else ["array", _mark(value), list(value.shape), value.tobytes()]
    if id(value) in above or callable(value) or isinstance(value, MappingProxyType) or type(value).__module__ in ("re", "msgspec"):
        return _KEEP
    above = above | {id(value)}
    if type(value) is dict:
        pairs = [[_kept(key, what, above), _kept(held, f"{what}[{key!r}]", above)] for key, held in value.items()]
        return ["dict", pairs]
    if type(value).__name__ in _SEQUENCES and type(value) is _SEQUENCES[type(value).__name__]:
        return [type(value).__name__, [_kept(held, what, above) for held in value]]
    if _name(type(value)).startswith(_OURS):
        if isinstance(value, tuple):
            return ["record", _name(type(value)), [_kept(held, what, above) for held in value]]
        if isinstance(value, msgspec.Struct):
            return ["record", _name(type(value)), [_kept(getattr(value, name), what, above) for name in value.__struct_fields__]]
        return ["object", _name(type(value)), {name: _kept(held, f"{what}.{name}", above) for name, held in _attributes(value).items()}]
    raise StateError(what, "numbers, texts, containers, arrays and objects of our own", _name(type(value)))


def _put(now: Any, node: list[Any], what: str) -> Any:
    kind = node[0]
    if kind == "keep":
        return now
    if kind in ("plain", "int"):
        return node[1] if kind == "plain" else int(node[1])
    if kind == "array":
        return _put_array(now, node, what)
    if kind == "dict":
        held = {_put(None, key, what): (key, inner) for key, inner in node[1]}
        before = now if isinstance(now, dict) else {}
        if any(inner == _KEEP and key not in before for key, (_, inner) in held.items()):
            raise StateError(what, f"with the keys {list(before)}", list(held))
        new = {key: _put(before.get(key), inner, f"{what}[{key!r}]") for key, (_, inner) in held.items()}
        if isinstance(now, dict):
            now.clear()
            now.update(new)
            return now
        return new
    if kind in _SEQUENCES:
        return _put_sequence(now, node, what)
    if kind == "record":
        return _class(node[1], what)(*(_put(None, inner, what) for inner in node[2]))
    if kind == "object":
        return _put_object(now, node, what)
    raise StateError(what, "of a kind that is known", kind)


def _put_array(now: Any, node: list[Any], what: str) -> np.ndarray:
    _, mark, shape, content = node
    if not isinstance(now, np.ndarray) or _mark(now) != mark:
        raise StateError(what, "an array of the same type", mark)
    held = np.frombuffer(content, now.dtype).reshape(shape)
    if now.shape == held.shape:
        now[...] = held
        return now
    return held.copy()


def _put_sequence(now: Any, node: list[Any], what: str) -> Any:
    kind, items = node
    old = list(now) if isinstance(now, list | tuple | deque) else []
    if any(item == _KEEP for item in items[len(old) :]):
        raise StateError(what, f"with {len(old)} entries", len(items))
    new = [_put(old[i] if i < len(old) else None, item, what) for i, item in enumerate(items)]
    if isinstance(now, list | deque | set) and type(now) is _SEQUENCES[kind]:
        now.clear()
        now.update(new) if isinstance(now, set) else now.extend(new)
        return now
    return _SEQUENCES[kind](new)


def _put_object(now: Any, node: list[Any], what: str) -> Any:
    _, name, attributes = node
    if now is None or _name(type(now)) != name:
        now = object.__new__(_class(name, what))
    elif set(attributes) != set(_attributes(now)):
        raise StateError(what, f"with the attributes {', '.join(_attributes(now))}", ", ".join(attributes))
    for attribute, inner in attributes.items():
        # Not by assignment: an instrument refuses that.
        object.__setattr__(now, attribute, _put(getattr(now, attribute, None), inner, f"{what}.{attribute}"))
    held = _attributes(now)
    for book in held.values():
        if isinstance(book, np.ndarray) and book.dtype == BOOK:
            hold(book, held["_far"])  # the address in it was that of the other's far levels
    return now


def _attributes(value: Any) -> dict[str, Any]:
    slots = [name for of in type(value).__mro__ for name in getattr(of, "__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
    return {name: held for name, held in found.items() if name != _ADDRESS}


def _class(name: str, what: str) -> Any:
    module, _, qualified = name.rpartition(":")
    if not f"{module}.".startswith(_OURS):
        raise StateError(what, f"of classes in {_OURS}", name)
    try:
        return getattr(import_module(module), qualified)
    except (ImportError, AttributeError):
        raise StateError(what, "of a class that there is", name) from None


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _mark(array: np.ndarray) -> int:
    return zlib.crc32(repr(array.dtype).encode())
