import asyncio
from dataclasses import replace

import numpy as np
import pytest

from models.examples import Choices
from simulator.capture import frames
from tasks import audit as auditing
from tasks.audit import audit
from tasks.features.catalogue import NAMES
from tasks.features.fold import Features
from tasks.featurize import featurize
from tasks.label import label
from tasks.record import Recorder, record
from tasks.train import examples_of
from warehouse.lake import Lake

VENUE, RAW, SYMBOL = "binance_usdm", "BTCUSDT", "BTC-USDT-PERP"
S = 1_000_000_000
CHOICES = Choices(horizon_ns=S, n_folds=2, embargo_ns=S, n_trees=10, max_rows=500)
CHECKS = ["truncation", "alteration", "spans", "plausibility", "shuffled labels", "planted leaks"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A lake with a minute and a half of a simulated market, features and labels."""

    async def source():
        for receive_ns, frame in frames(VENUE, RAW, 90.0, seed=41):
            yield RAW, receive_ns, frame

    made = Lake(tmp_path_factory.mktemp("audited"))
    asyncio.run(record(Recorder(made, VENUE, "made"), source()))
    for venue, symbol, day in made.partitions("l2_snapshots"):
        featurize(made, venue, symbol, day)
        label(made, venue, symbol, day, limit_s=2.0)
    return made


@pytest.fixture(scope="module")
def examples(lake):
    return examples_of(lake, VENUE, SYMBOL)


@pytest.fixture
def untrained(monkeypatch):
    """Leave the trainings out: they have their own test, and take the longest."""
    monkeypatch.setattr(auditing, "check_shuffled", lambda *_: [])


def _subjects(checks):
    return {check.name: {finding.subject for finding in check.findings} for check in checks}


def test_an_honest_lake_passes_every_check(lake, examples):
    told = []
    checks = audit(lake, VENUE, SYMBOL, examples, CHOICES, told.append)
    assert [check.name for check in checks] == CHECKS
    assert _subjects(checks) == {name: set() for name in CHECKS}
    assert len(told) == len(CHECKS)
    assert checks[2].scope == f"2 folds, {examples.usable.sum():,} labels"


def test_checks_are_plain_data(lake, examples, untrained):
    first = audit(lake, VENUE, SYMBOL, examples, CHOICES)[0].as_dict()
    assert set(first) == {"check", "scope", "findings", "unchecked"}
    assert first["findings"] == []


def test_features_without_values_are_neither_passed_nor_failed(lake, examples, untrained):
    x = examples.x.copy()
    x[:, 5] = np.nan
    checks = {check.name: check for check in audit(lake, VENUE, SYMBOL, replace(examples, x=x), CHOICES)}
    assert examples.names[5] in checks["plausibility"].unchecked
    assert checks["plausibility"].scope == f"{x.shape[1] - len(checks['plausibility'].unchecked)} features alone"
    # a minute and a half fills no window of five minutes
    assert "volume_zscore_30" in checks["truncation"].unchecked == checks["alteration"].unchecked
    assert checks["truncation"].scope.startswith(f"{len(NAMES) - len(checks['truncation'].unchecked)} features")


def test_a_fold_that_knows_what_comes_is_found_by_cutting_and_by_altering(lake, examples, untrained, monkeypatch):
    column = NAMES.index("spread_bps")

    class Peeking(Features):
        def batch(self, *events):
            meta, out = super().batch(*events)
            out[:-3, column] = out[3:, column]
            return meta, out

    monkeypatch.setattr(auditing, "Features", Peeking)
    found = _subjects(audit(lake, VENUE, SYMBOL, examples, CHOICES))
    assert found["truncation"] == found["alteration"] == {"spread_bps"}
    assert not found["planted leaks"]


def test_a_fold_centred_on_the_whole_sample_is_found(lake, examples, untrained, monkeypatch):
    column = NAMES.index("depth_bid_5")

    class Centred(Features):
        def batch(self, *events):
            meta, out = super().batch(*events)
            out[:, column] -= np.nanmean(out[:, column])
            return meta, out

    monkeypatch.setattr(auditing, "Features", Centred)
    found = _subjects(audit(lake, VENUE, SYMBOL, examples, CHOICES))
    assert found["truncation"] == found["alteration"] == {"depth_bid_5"}


def test_an_example_that_carries_its_own_future_is_named(lake, examples, untrained):
    noise = np.random.default_rng(0).normal(size=len(examples.return_bps)) * 0.05 * np.nanstd(examples.return_bps)
    x = examples.x.copy()
    x[:, 5] = np.nan_to_num(examples.return_bps) + noise
    found = _subjects(audit(lake, VENUE, SYMBOL, replace(examples, x=x), CHOICES))
    assert found["plausibility"] == {examples.names[5]}
    assert not found["truncation"]


def test_folds_that_do_not_purge_are_found(lake, examples, untrained, monkeypatch):
    class Careless(auditing.WalkForward):
        def folds(self, spans):
            whole = super().folds(spans)
            return [replace(fold, train=np.arange(fold.test[0])) for fold in whole]

    monkeypatch.setattr(auditing, "WalkForward", Careless)
    found = _subjects(audit(lake, VENUE, SYMBOL, examples, CHOICES))
    assert found["spans"] == {"fold 0", "fold 1"}


def test_an_audit_over_too_little_says_that_it_would_not_notice(lake, examples, untrained):
    few = np.flatnonzero(examples.usable)[:60]
    names = ("exchange_ns", "label_end_ns", "direction", "vol_return", "return_bps", "bid", "ask", "baseline", "doubt", "x")
    part = replace(examples, **{name: getattr(examples, name)[few] for name in names})
    found = _subjects(audit(lake, VENUE, SYMBOL, part, CHOICES))
    assert found["planted leaks"] == {"planted_return"}
