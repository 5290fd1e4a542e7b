import io
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.detectors.fold import Detectors
from tasks.detectors.state import DETECTORS, DRIFTING, VALUES
from tasks.features.catalogue import FEATURES, NAMES
from tasks.features.fold import META, Features
from tasks.features.mirror import mirror
from tests import naive_detectors as naive
from tests.captures import CAPTURES
from tests.streams import good, market, recorded
from warehouse.schema import DRIFT, GAP, OK

SECOND = 1_000_000_000


@lru_cache(maxsize=4)
def lively(seed=0, n=12_000):
    """Return rows of a market with a storm in it, a gap behind it, and then calm."""
    books, trades, change = market(seed, n)
    begin = books["exchange_ns"][0] + 500 * SECOND
    storm, stormy = ((part["exchange_ns"] > begin) & (part["exchange_ns"] < begin + 4 * SECOND) for part in (books, trades))
    for side in ("bid_px", "ask_px"):
        books[side][storm] += 40.0 * np.arange(storm.sum())[:, None]
    trades["size"][stormy] *= 300
    at = int(books["event_seq"][books.size * 2 // 3])
    ns = int(books["exchange_ns"][books.size * 2 // 3])
    changes = np.concatenate([change, good(ns, at, GAP), good(ns + 1, at + 40)])
    return Features().batch(books, trades, changes)


def live(meta, rows, detectors=None):
    """Fold row by row; return signals and values."""
    detectors = detectors or Detectors()
    signals, values = [], np.zeros(meta.size, VALUES)
    for i in range(meta.size):
        signal = detectors.step(rows[i], meta[i : i + 1])
        if signal is not None:
            signals.append(signal.copy())
        values[i] = detectors.values
    return np.concatenate(signals) if signals else Detectors().batch(meta[:0], rows[:0]), values


def same(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def test_signals_and_values_are_those_of_the_definitions():
    meta, rows = lively()
    n = 3600  # past the warm-up of 300 s and into the storm: enough for a slow one
    signals, values = Detectors().trace(meta[:n], rows[:n])
    expected, told = naive.detect(meta[:n], rows[:n])
    for k, name in enumerate(VALUES.names):
        np.testing.assert_allclose(values[name], told[:, k], rtol=1e-6, atol=1e-7, err_msg=name)
    at = np.searchsorted(meta["event_seq"], signals["event_seq"])
    assert [(int(i), int(s["kind"]), int(s["side"])) for i, s in zip(at, signals, strict=True)] == expected
    assert expected


def test_a_storm_is_seen():
    meta, rows = lively()
    signals = Detectors().batch(meta, rows)
    storm = meta["exchange_ns"][0] + 500 * SECOND
    assert ((signals["exchange_ns"] >= storm) & (signals["exchange_ns"] < storm + 5 * SECOND)).any()


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 7999), max_size=4), st.integers(0, 1))
def test_any_split_folds_to_the_whole_bit_for_bit(cuts, seed):
    meta, rows = lively(seed)
    whole = Detectors().trace(meta, rows)
    detectors, parts = Detectors(), []
    for k, (m, x) in enumerate(zip(np.split(meta, sorted(cuts)), np.split(rows, sorted(cuts)), strict=True)):
        parts.append(live(m, x, detectors) if k % 2 and len(m) < 2500 else detectors.trace(m, x))
    assert same(whole, tuple(np.concatenate(column) for column in zip(*parts, strict=True)))


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_live_is_batch_on_captures(capture):
    meta, rows = Features().batch(*recorded(capture, 1500))
    meta, rows = meta[:40_000], rows[:40_000]
    assert same(Detectors().trace(meta, rows), live(meta, rows))


def test_live_is_batch_where_there_are_signals():
    meta, rows = lively()
    whole = Detectors().trace(meta, rows)
    assert len(whole[0]) > 3
    assert same(whole, live(meta, rows))
    assert whole[0].tobytes() == Detectors().batch(meta, rows).tobytes()


@settings(max_examples=8, deadline=None)
@given(st.integers(3000, 7900), st.floats(-3, 3))
def test_later_rows_change_nothing_earlier(at, factor):
    meta, rows = lively()
    changed_meta, changed = meta.copy(), rows.copy()
    changed[at:] *= factor
    changed_meta["exchange_ns"][at:] += 17 * SECOND
    before, after = Detectors().trace(meta, rows), Detectors().trace(changed_meta, changed)
    n = int((before[0]["event_seq"] < meta["event_seq"][at]).sum())
    assert before[0][:n].tobytes() == after[0][:n].tobytes()
    assert before[1][:at].tobytes() == after[1][:at].tobytes()


def test_a_kept_state_goes_on_in_another_process():
    meta, rows = lively()
    first, second, kept = Detectors(h=4.0, cooldown_s=5.0), Detectors(), io.BytesIO()
    whole = Detectors(h=4.0, cooldown_s=5.0).trace(meta, rows)
    early = first.trace(meta[:5000], rows[:5000])
    first.save(kept)
    kept.seek(0)
    second.restore(kept)
    late = second.trace(meta[5000:], rows[5000:])
    assert same(whole, tuple(np.concatenate(pair) for pair in zip(early, late, strict=True)))


def test_drift_regime_and_volatility_are_unknown_for_300_seconds_after_each_doubt():
    meta, rows = lively()
    _, values = Detectors().trace(meta, rows)
    warm = meta["clean_ns"] < 299 * SECOND  # the first second may have been a part of one
    assert warm.sum() > 3000
    for name in ("cusum", "bocpd_change_prob", "bocpd_run_length"):
        assert np.isnan(values[name][warm]).all()
        assert not np.isnan(values[name][meta["clean_ns"] > 308 * SECOND]).any()
    doubtful = meta["doubt"] != OK
    assert doubtful.any()
    assert all(np.isnan(values[name][doubtful]).all() for name in VALUES.names if name != "confirmed")


def test_regime_features_are_what_bocpd_says_live_as_in_batch():
    meta, rows = (a[:2500].copy() for a in lively(1))
    columns = [NAMES.index("bocpd_change_prob"), NAMES.index("bocpd_run_length")]
    rows[:, columns] = np.nan
    batch, one_by_one, turned = rows.copy(), rows.copy(), np.asfortranarray(rows)
    _, values = Detectors().trace(meta, batch)
    live(meta, one_by_one)
    Detectors().batch(meta, turned)
    for k, name in zip(columns, ("bocpd_change_prob", "bocpd_run_length"), strict=True):
        assert np.isfinite(batch[-1, k])
        told = np.where(meta["clean_ns"] >= FEATURES[k].warmup_s * SECOND, values[name], np.nan)
        assert np.array_equal(batch[:, k], told, equal_nan=True)
        assert batch[:, k].tobytes() == one_by_one[:, k].tobytes() == turned[:, k].tobytes()
    rest = [k for k in range(len(NAMES)) if k not in columns]
    assert batch[:, rest].tobytes() == rows[:, rest].tobytes()


def test_signals_are_numbered_apart_and_passed_their_threshold():
    meta, rows = lively()
    signals = Detectors(cooldown_s=7.0, first_seq=40).batch(meta, rows)
    assert signals["seq"].tolist() == list(range(40, 40 + len(signals)))
    assert (np.diff(np.maximum.accumulate(signals["exchange_ns"])) >= 7 * SECOND).all()
    assert (signals["score"] > signals["threshold"]).all()
    assert (signals["threshold"] >= 0.5).all()
    drifts = signals[signals["kind"] == DRIFT]
    assert len(drifts)
    assert (np.abs(drifts["cusum"]) >= 3.0).all()
    at = np.searchsorted(meta["event_seq"], signals["event_seq"])
    np.testing.assert_array_equal(signals["receive_ns"], meta["receive_ns"][at])


def test_a_silence_of_more_than_300_seconds_begins_anew():
    meta, rows = (a[:3000].copy() for a in lively())
    meta["exchange_ns"][2900:] += 302 * SECOND
    _, values = Detectors().trace(meta, rows)
    assert not np.isnan(values["cusum"][2899])
    assert np.isnan(values["cusum"][2900:]).all()
    meta["exchange_ns"][2900:] -= 100 * SECOND
    assert not np.isnan(Detectors().trace(meta, rows)[1]["cusum"][2900:]).any()


def test_in_the_mirror_signals_are_the_same_and_sides_change():
    meta, rows = lively()
    names = [name for name in NAMES if name not in ("mid", "weighted_mid", "microprice")]
    place, sign = mirror(names)
    where = np.array([NAMES.index(name) for name in names])
    image = rows.copy()
    image[:, where] = rows[:, where][:, place] * sign
    image[:, NAMES.index("mid")] = 1e9 / rows[:, NAMES.index("mid")]
    signals, mirrored = (Detectors().batch(meta, x) for x in (rows, image))
    assert signals["event_seq"].tolist() == mirrored["event_seq"].tolist()
    assert signals["kind"].tolist() == mirrored["kind"].tolist()
    assert signals["side"].tolist() == (-mirrored["side"]).tolist()
    assert np.any(signals["side"] != 0)


def test_memory_is_one_record_however_long_it_runs():
    assert DETECTORS.itemsize < 100_000
    detectors = Detectors()
    detectors.batch(*lively())
    assert detectors.state.nbytes == DETECTORS.itemsize
    assert all(isinstance(value, np.ndarray) for value in vars(detectors).values())


def test_what_it_listens_to_is_in_the_catalogue():
    assert set(DRIFTING) <= set(NAMES)


@pytest.mark.parametrize(
    "wrong", [{"weights": (1, 1, 1)}, {"weights": (0, 0, 0, 0)}, {"weights": (1, 1, 1, -1)}, {"h": 0.0}, {"floor": -1.0}]
)
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="received"):
        Detectors(**wrong)


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match="shape"):
        Detectors().batch(np.zeros(2, META), np.zeros((2, 3)))


def test_state_of_another_version_is_refused():
    kept = io.BytesIO()
    np.savez(kept, state=np.zeros(8, np.uint8))
    kept.seek(0)
    with pytest.raises(ValueError, match="another version"):
        Detectors().restore(kept)
