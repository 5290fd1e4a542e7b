import pytest

from flows.learning import choices_of, costs_of, registry_of, run_address, stream_of
from flows.settings import Settings

USDM, SPOT = ("binance_usdm", "BTC-USDT-PERP"), ("binance_spot", "BTC-USDT")


@pytest.mark.parametrize(
    ("labelled", "asked", "expected"),
    [
        ((), (None, None), None),
        ((SPOT,), (None, None), SPOT),
        ((SPOT, USDM), (None, None), USDM),
        ((SPOT, USDM), ("binance_spot", None), SPOT),
        ((SPOT, USDM), (None, "BTC-USDT"), SPOT),
        ((SPOT,), ("binance_usdm", None), None),
    ],
)
def test_the_stream_to_learn_from(labelled, asked, expected):
    settings = Settings(streams="binance_usdm:BTC-USDT-PERP")
    partitions = [(*stream, day) for stream in labelled for day in ("2026-01-01", "2026-01-02")]
    assert stream_of(settings, partitions, *asked) == expected


def test_settings_become_choices_and_costs():
    settings = Settings(horizon_s=2.5, embargo_s=0.5, folds=4, trees=50, trials=3, seed=11, taker_fee_bps=1.5)
    choices = choices_of(settings)
    assert (choices.horizon_ns, choices.embargo_ns) == (2_500_000_000, 500_000_000)
    assert (choices.n_folds, choices.n_trees, choices.n_trials, choices.seed) == (4, 50, 3, 11)
    assert costs_of(settings).taker_fee_bps == 1.5


def test_a_run_has_an_address_in_the_ui(tmp_path):
    settings = Settings(lake=tmp_path, mlflow_port=5999)
    address = run_address(settings, registry_of(settings), "abc")
    assert address.startswith("http://127.0.0.1:5999/#/experiments/")
    assert address.endswith("/runs/abc")
