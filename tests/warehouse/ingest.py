"""A program to kill: replays the same rows from the first whenever it is started, and says what was acknowledged.

python -m tests.warehouse.ingest LAKE VENUE SYMBOL TOTAL PAUSE_MS
"""

import random
import sys
import threading
import time

from tests.warehouse.examples import rows_of, text_rows
from warehouse.lake import Lake


def main(root, venue, symbol, total, pause_ms):
    chance = random.Random()
    lake = Lake(root)
    writer = lake.writer()
    session = writer.session(venue, symbol, "replay")
    done, sealing = 0, None
    while done < total:
        n = min(chance.randint(1, 120), total - done)
        for table in ("l2_snapshots", "trades"):
            session.append(table, rows_of(table, done, n))
        session.append("unreadable", text_rows(done, n))
        done += n
        writer.commit()
        print(done, flush=True)
        if (sealing is None or not sealing.is_alive()) and chance.random() < 0.3:
            sealing = threading.Thread(target=writer.seal)
            sealing.start()
        time.sleep(chance.random() * pause_ms / 1000)
    if sealing is not None:
        sealing.join()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
