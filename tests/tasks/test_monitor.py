import os
import subprocess
import sys

from tasks import monitor

DEAD_SERVER = """
import os
import time
from tasks import monitor, notify
began = time.monotonic()
for i in range(200):
    monitor.progress("rows", 50.0, str(i))
notify.partition_sealed("binance_usdm", "BTC-USDT-PERP", "2026-01-01", 5)
posted = time.monotonic() - began
whole = monitor.flush(0.3)
print(posted, whole, time.monotonic() - began, flush=True)
os._exit(0)  # Prefect itself would wait some seconds for the event
"""


def test_outside_a_run_nothing_is_sent():
    monitor.table("rows", [{"a": 1}])
    assert monitor.flush(0.0)


def test_a_dead_server_never_blocks():
    environment = {
        **os.environ,
        "PREFECT_API_URL": "http://127.0.0.1:9/api",  # nobody listens on discard
        "PREFECT__RUNTIME__FLOW_RUN__ID": "11111111-1111-1111-1111-111111111111",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
    }
    done = subprocess.run([sys.executable, "-c", DEAD_SERVER], env=environment, capture_output=True, text=True, timeout=60, check=True)
    posted, whole, total = done.stdout.split()
    assert float(posted) < 1.0
    assert whole == "False"
    assert float(total) < 2.0


def test_keys_are_made_legal():
    assert monitor._legal("ingest binance_usdm/BTC-USDT") == "ingest-binance-usdm-btc-usdt"
