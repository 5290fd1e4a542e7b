"""A market, and local servers that speak the venues' own protocols.

`frames` and `write_capture` need no socket; `simulator.server` is imported apart.
"""

from simulator.capture import frames, write_capture

__all__ = ["frames", "write_capture"]
