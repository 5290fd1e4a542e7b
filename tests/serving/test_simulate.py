"""The simulator as users start it: by hand with faults and a ledger, or for the streams of a machine."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from typer.testing import CliRunner

from cli import app
from flows.settings import HOME
from serving.simulate import symbols_of
from simulator.ledger import faults, read
from tests.conftest import free_port

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def start(*words, **environment):
    return subprocess.Popen(words, cwd=HOME, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)


def test_command_serves_counts_its_faults_and_leaves_a_ledger(tmp_path):
    port = free_port()
    tidebook = (sys.executable, "-c", "import cli; cli.main()")
    options = ("--venues", "binance_usdm", "--symbols", "binance_usdm:ETHUSDT,binance_usdm:SIM001USDT", "--faults", "restart=@0.3")
    process = start(*tidebook, "simulate", *options, "--port", str(port), "--ledger", str(tmp_path))
    try:
        assert process.stdout.readline().split() == [
            "binance_usdm",
            f"ws://127.0.0.1:{port}",
            f"http://127.0.0.1:{port}",
            "ETHUSDT",
            "SIM001USDT",
        ]
        with OPENER.open(f"http://127.0.0.1:{port}/fapi/v1/depth?symbol=SIM001USDT&limit=5", timeout=20) as answer:
            assert len(json.loads(answer.read())["bids"]) == 5
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "1 requests, faults: restart 1" in said
    assert len(read(tmp_path, "binance_usdm", "ETHUSDT")["seq"]) > 5
    assert [fault["fault"] for fault in faults(tmp_path, "binance_usdm")] == ["restart"]


def test_streams_of_a_machine_are_served_one_venue_a_port():
    port = free_port()
    streams = "binance_spot:BTC-USDT,binance_coinm:ETH-USD-PERP"
    process = start(
        sys.executable, "-m", "serving.simulate", TIDEBOOK_STREAMS=streams, TIDEBOOK_SIMULATOR_PORT=str(port), PYTHONUNBUFFERED="1"
    )
    try:
        told = [process.stdout.readline().split() for _ in range(2)]
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert [(line[0], line[2], line[3]) for line in told] == [
        ("binance_spot", f"http://127.0.0.1:{port}", "BTCUSDT"),
        ("binance_coinm", f"http://127.0.0.1:{port + 1}", "ETHUSD_PERP"),
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--faults", "dorp=1"], "no such fault"),
        (["--faults", "drop=often"], "expected a probability"),
        (["--venues", "mtgox"], "no simulated venue"),
        (["--venues", "okx", "--symbols", "okx:BTCUSDT"], "no simulated market"),
    ],
)
def test_what_cannot_be_simulated_is_wrong_usage(words, told):
    result = CliRunner().invoke(app, ["simulate", *words])
    assert result.exit_code == 2
    assert told in result.output
    assert "Traceback" not in result.output


def test_help_names_every_fault():
    from simulator.faults import KINDS

    said = CliRunner().invoke(app, ["simulate", "--help"]).output
    assert all(name in said for name in KINDS)


def test_symbols_are_counted_or_named():
    assert symbols_of(("binance_coinm", "hyperliquid"), "2") == {
        "binance_coinm": ["BTCUSD_PERP", "ETHUSD_PERP"],
        "hyperliquid": ["BTC", "ETH"],
    }
    assert symbols_of(("okx",), "okx:BTC-USDT,okx:BTC-USD-SWAP") == {"okx": ["BTC-USDT", "BTC-USD-SWAP"]}
    assert symbols_of(("mtgox",), "3") == {}
