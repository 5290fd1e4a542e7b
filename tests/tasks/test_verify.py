import json
import re

import numpy as np
import pytest

from simulator.capture import frames
from tasks import verify as verifying
from tasks.features.catalogue import NAMES
from tasks.features.fold import Features
from tasks.replay import CaptureTruncatedError
from tasks.verify import verify

VENUE, RAW = "binance_usdm", "BTCUSDT"


@pytest.fixture(scope="module")
def market():
    return list(frames(VENUE, RAW, 40.0, seed=21))


@pytest.fixture(scope="module")
def verdict(market):
    return verify(market, VENUE, RAW)


def _of(market, kind, after=2_000):
    """Return where the frames of a stream are, those of the opening left out."""
    return [i for i, (_, frame) in enumerate(market) if kind in frame[:60] and i >= after]


def _without(market, i):
    return market[:i] + market[i + 1 :]


class TwoMinds:
    """A scorer whose bulk scores of the given rows are off by the last digit."""

    def __init__(self, rows):
        self.rows = rows

    def score(self, x):
        return float(np.nansum(x)), 0.5

    def batch(self, x):
        scores = np.array([self.score(np.ascontiguousarray(row)) for row in x])
        scores[self.rows, 0] = np.nextafter(scores[self.rows, 0], np.inf)
        return scores


def test_a_whole_capture_is_good_and_everything_in_it_is_counted(market, verdict):
    assert verdict.is_good, verdict.problems
    assert (verdict.symbol, verdict.messages) == ("BTC-USDT-PERP", len(market))
    assert verdict.trades == len(_of(market, b"@trade", 0))
    assert verdict.rows == verdict.parity_rows == verdict.book_updates > 500
    assert verdict.quote_matches == verdict.quote_checks > 0.9 * verdict.book_updates
    assert verdict.scored_with.startswith("50 trees")


def test_the_verdict_is_plain_data_with_the_promised_keys(verdict):
    told = json.loads(json.dumps(verdict.as_dict()))
    assert told["ok"] is True
    promised = (
        "messages book_updates gaps crossed quote_checks quote_matches trades trade_id_gaps rows parity_rows parity_mismatches unreadable"
    )
    assert set(promised.split()) <= set(told)


def test_a_missing_depth_message_is_a_gap(market):
    found = verify(_without(market, _of(market, b"@depth")[50]), VENUE, RAW)
    assert found.gaps == 1
    assert not found.is_good
    assert any("depth messages are missing" in problem for problem in found.problems)
    assert found.parity_mismatches == 0  # a gap is a gap to both paths


def test_a_missing_trade_is_a_gap_in_trade_ids(market, verdict):
    found = verify(_without(market, _of(market, b"@trade")[10]), VENUE, RAW)
    assert (found.trade_id_gaps, found.trades, found.gaps) == (1, verdict.trades - 1, 0)
    assert not found.is_good


def test_a_frame_that_nobody_can_read_is_counted_and_the_rest_is_used(market, verdict):
    found = verify([*market[:3_000], (market[3_000][0], b'{"stream":"btcusdt@dep'), *market[3_000:]], VENUE, RAW)
    assert (found.unreadable, found.messages, found.rows) == (1, verdict.messages + 1, verdict.rows)
    assert not found.is_good


def test_tickers_that_disagree_with_the_book_are_counted_and_named(market, verdict):
    altered = list(market)
    for i in _of(market, b"@bookTicker", 0):
        stamp, frame = market[i]
        altered[i] = stamp, re.sub(rb'"B":"([0-9.]+)"', rb'"B":"9\1"', frame)
    found = verify(altered, VENUE, RAW)
    assert found.quote_checks == verdict.quote_checks
    assert found.quote_matches == 0
    assert len(found.quote_mismatch_ids) == 20
    assert any(problem.startswith(f"only 0 of {found.quote_checks}") for problem in found.problems)


def test_a_capture_without_its_snapshot_builds_no_book(market):
    found = verify([item for item in market if b'"lastUpdateId"' not in item[1]], VENUE, RAW)
    assert found.book_updates == found.rows == 0
    assert any("no snapshot" in problem for problem in found.problems)
    assert "no book was ever built" in found.problems


def test_scores_that_differ_in_the_last_digit_are_found(market):
    rows = [3, 40, 41]
    found = verify(market, VENUE, RAW, TwoMinds(rows), "two minds")
    assert (found.score_mismatches, found.feature_mismatches, found.parity_mismatches) == (3, 0, 3)
    assert found.scored_with == "two minds"
    assert not found.is_good


def test_features_that_differ_between_live_and_batch_are_found(market, monkeypatch):
    class Careless(Features):
        def batch(self, *events):
            meta, out = super().batch(*events)
            out[7, NAMES.index("mid")] = np.nextafter(out[7, NAMES.index("mid")], np.inf)
            meta["clean_ns"][9] += 1
            return meta, out

    monkeypatch.setattr(verifying, "Features", Careless)
    found = verify(market, VENUE, RAW)
    assert (found.feature_mismatches, found.score_mismatches, found.parity_mismatches) == (2, 0, 2)
    assert any("live and the batch path" in problem for problem in found.problems)


def test_a_capture_that_is_cut_short_is_judged_as_far_as_it_goes(market):
    def cut():
        yield from market[:2_000]
        raise CaptureTruncatedError("made.gz", 2_000, "cut")

    found = verify(cut(), VENUE, RAW)
    assert found.messages == 2_000
    assert found.rows == found.parity_rows > 0
    assert not found.is_good
    assert any("2000 readable lines" in problem for problem in found.problems)


def test_rows_that_one_path_has_and_the_other_lacks_all_count(market, monkeypatch):
    class Short(Features):
        def batch(self, *events):
            meta, out = super().batch(*events)
            return meta[:-3], out[:-3]

    monkeypatch.setattr(verifying, "Features", Short)
    found = verify(market[:2_000], VENUE, RAW)
    assert found.feature_mismatches == found.parity_mismatches == found.rows > 0


def test_a_row_wrong_in_features_and_score_counts_as_both(market, monkeypatch):
    class Off(Features):
        def batch(self, *events):
            meta, out = super().batch(*events)
            out[5, NAMES.index("mid")] += 1.0
            return meta, out

    monkeypatch.setattr(verifying, "Features", Off)
    found = verify(market[:2_000], VENUE, RAW, TwoMinds([5]))
    assert (found.feature_mismatches, found.score_mismatches, found.parity_mismatches) == (1, 1, 1)
