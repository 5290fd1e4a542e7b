import json

import pytest

from flows.settings import Settings
from serving import doctor as module
from serving.doctor import Check, doctor, examine
from warehouse.lake import Lake


@pytest.fixture
def settings(tmp_path):
    return Settings(lake=Lake(tmp_path / "lake").root, prefect_port=1, mlflow_port=1)


def test_this_machine_has_what_is_needed(settings):
    said = []
    assert doctor(settings, say=said.append) == 0
    assert "all that is needed is there" in said[-1]
    assert "sqlalchemy" in said[0]


def test_servers_that_are_down_are_told_but_do_not_fail(settings):
    checks = {check.name: check for check in examine(settings)}
    assert not checks["prefect server"].ok
    assert not checks["prefect server"].needed
    assert "tidebook up" in checks["mlflow server"].detail


def test_every_venue_that_is_recorded_can_be_asked(monkeypatch, settings):
    asked = []
    monkeypatch.setattr(module, "_failure", lambda address: asked.append(address) or "")
    streams = {"okx": ("BTC-USDT",), "binance_spot": ("BTC-USDT",), "kraken": ("BTC-USD",), "hyperliquid": ("BTC-USD-PERP",)}
    checks = list(module.reachable(settings.model_copy(update={"streams": streams})))
    assert [check.name for check in checks] == list(streams)
    assert len(asked) == 4
    assert all(check.ok for check in checks)


def test_json_names_every_check(settings):
    said = []
    assert doctor(settings, as_json=True, say=said.append) == 0
    found = json.loads(said[0])
    assert found["ok"] is True
    assert {"name", "ok", "needed", "detail"} == set(found["checks"][0])
    assert {"python", "prefect", "lake", "lake size", "room on disk"} <= {check["name"] for check in found["checks"]}


def test_a_lake_that_cannot_be_written_fails(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    said = []
    assert doctor(Settings(lake=tmp_path / "file", prefect_port=1, mlflow_port=1), say=said.append) == 1
    assert "checks failed" in said[-1]


def test_a_lake_that_is_not_there_yet_is_told_and_not_made(tmp_path):
    settings = Settings(lake=tmp_path / "typo" / "lake", prefect_port=1, mlflow_port=1)
    checks = {check.name: check for check in examine(settings)}
    assert checks["lake"].ok
    assert "makes one" in checks["lake"].detail
    assert checks["room on disk"].needed
    assert not (tmp_path / "typo").exists()


def test_a_wrong_version_fails(settings, monkeypatch):
    real = module.version
    monkeypatch.setattr(module, "version", lambda name: "2.1.9" if name == "sqlalchemy" else real(name))
    found = next(check for check in examine(settings) if check.name == "sqlalchemy")
    assert found == Check("sqlalchemy", False, True, "2.1.9, needs >=2.0.58,<2.1")
    assert doctor(settings, say=lambda _: None) == 1
