import pytest
from pydantic import ValidationError

from flows.settings import HOME, Settings


def test_defaults_record_one_futures_stream_into_data(monkeypatch):
    monkeypatch.delenv("TIDEBOOK_LAKE", raising=False)
    settings = Settings()
    assert settings.lake.name == "data"
    assert settings.lake.is_absolute()
    assert settings.streams == {"binance_usdm": ("BTC-USDT-PERP",)}


def test_environment_sets_every_field(monkeypatch, tmp_path):
    monkeypatch.setenv("TIDEBOOK_LAKE", str(tmp_path))
    monkeypatch.setenv("TIDEBOOK_STREAMS", "binance_spot:BTC-USDT, binance_spot:ETH-USDT,binance_coinm:BTC-USD-PERP")
    monkeypatch.setenv("TIDEBOOK_PREFECT_PORT", "4999")
    settings = Settings()
    assert settings.lake == tmp_path
    assert settings.streams == {"binance_spot": ("BTC-USDT", "ETH-USDT"), "binance_coinm": ("BTC-USD-PERP",)}
    assert settings.prefect_url == "http://127.0.0.1:4999"


def test_a_child_process_reads_the_same_settings(monkeypatch, tmp_path):
    given = Settings(
        lake=tmp_path, streams="binance_spot:BTC-USDT,binance_usdm:BTC-USDT-PERP", horizon_s=2.5, seed=11, mlflow_port=5999,
        lake_keep_days="raw:7,trades:90", lake_bytes=10**12,
    )  # fmt: skip
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == given


def test_environment_points_prefect_and_mlflow_into_the_lake(tmp_path):
    given = Settings(lake=tmp_path).environment()
    assert given["PREFECT_HOME"].startswith(str(tmp_path))
    assert given["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/models/mlflow.db"
    assert given["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert given["TIDEBOOK_HOME"] == str(HOME)
    assert (HOME / "prefect.yaml").exists()


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        Settings().seed = 3


@pytest.mark.parametrize("streams", ["binance_spot", "binance_spot:", ":BTC-USDT"])
def test_streams_that_do_not_parse_say_what_was_expected(streams):
    with pytest.raises(ValidationError, match="venue:SYMBOL"):
        Settings(streams=streams)


@pytest.mark.parametrize("days", ["raw", "raw:0", "trades:many", ":3"])
def test_days_that_do_not_parse_say_what_was_expected(days):
    with pytest.raises(ValidationError, match="table:days"):
        Settings(lake_keep_days=days)
