"""The command line: each command says what it will do, shows progress, and ends with an exit code that means something.

0 done; 1 done, and something is wrong with the data or the model; 2 wrong usage; 3 it could
not be done (unreadable capture, lake that cannot be written, missing server).
"""

import sys

from cli import asking, learning, machine, recording
from cli.shared import app

__all__ = ["app", "main"]
COMMANDS = (recording, asking, learning, machine)  # importing them registers what they hold


def main() -> None:
    """Run the command line; an interrupt ends it in order."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
