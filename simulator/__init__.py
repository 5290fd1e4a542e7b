"""A market, and local servers that speak the venues' own protocols.

`frames` and `write_capture` need no socket; `simulator.server` is imported apart.
"""

# ruff: noqa: E402 - the cache must be named before the first kernel is declared
from compiled import key_cache

key_cache()

from simulator.capture import frames, write_capture

__all__ = ["frames", "write_capture"]
