"""Section: does the recorder's memory stay flat over an hour of simulated market time at full speed?"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from results import Result

HERE = Path(__file__).resolve().parent
TITLE = "Memory of the live path over market time, at full speed"
GROWTH_MB = 25.0
MAKE = """
import sys
import simulator
for stamp, frame in simulator.frames(sys.argv[1], sys.argv[2], float(sys.argv[3]), 11):
    sys.stdout.buffer.write(b"%d %b\\n" % (stamp, frame))
"""


def measure(model_text: str, minutes: float) -> list[Result]:
    """Return resident memory late in the run, and how much more that is than when its windows had just filled."""
    venue, symbol = "binance_usdm", "BTCUSDT"
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "model.txt"
        saved.write_text(model_text)
        market = [sys.executable, "-c", MAKE, venue, symbol, str(minutes * 60.0)]
        taker = [sys.executable, str(HERE / "memory_run.py"), venue, symbol, str(Path(scratch) / "lake"), str(saved)]
        with (
            subprocess.Popen(market, stdout=subprocess.PIPE, cwd=HERE.parent) as frames,
            subprocess.Popen(taker, stdin=frames.stdout, stdout=subprocess.PIPE, text=True) as run,
        ):
            frames.stdout.close()
            told = [json.loads(line) for line in run.stdout]
    if run.returncode or frames.returncode or not told:
        raise RuntimeError(f"the recorder ended with {run.returncode}, the simulator with {frames.returncode}, after {len(told)} minutes")
    # Quarters are compared, not moments: buffers fill and empty with every seal.
    quarter = max(1, len(told) // 4)
    early, late = (sum(line["mb"] for line in part) / quarter for part in (told[quarter : 2 * quarter], told[-quarter:]))
    last = told[-1]
    note = f"{last['frames']:,} frames, {last['rows']:,} rows acknowledged"
    return [
        Result(TITLE, "tidebook", f"resident, last quarter of {last['minute']:.0f} minutes", late, "MB", note=note),
        Result(
            TITLE,
            "tidebook",
            "more than in the second quarter",
            late - early,
            "MB",
            None,
            f"<= {GROWTH_MB:.0f} MB",
            late - early <= GROWTH_MB,
        ),
    ]
