import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from tasks.detectors.fold import Detectors
from tasks.features.bar_catalogue import BAR_FEATURES, BAR_NAMES
from tasks.features.catalogue import FEATURES, NAMES, SETS, VERSION, columns
from tasks.features.cross_catalogue import CROSS_FEATURES, CROSS_NAMES
from tasks.features.fold import Features
from tasks.features.sets import FEATURE_SETS
from tests.streams import SECOND, START_NS, books_at, good, in_order, market, streams, trades_at
from warehouse.schema import OK

REGIMES = {"bocpd_change_prob", "bocpd_run_length"}  # the detectors fill them: tests/tasks/detectors/test_fold.py
OWN_RULE = {"vpin", "microprice_drift_bps", "gap_bid_bps", "gap_ask_bps"} | {name for name in NAMES if "_cost_bps_" in name}
WARMUP_NS = np.array([feature.warmup_s for feature in FEATURES]) * 1e9
RULED = np.array([name not in OWN_RULE for name in NAMES])
BEFORE_DETECTORS = np.array([name not in REGIMES for name in NAMES])


def test_every_feature_says_what_it_is():
    assert len(set(NAMES)) == len(NAMES) == len(FEATURES)
    for feature in FEATURES:
        assert feature.meaning
        assert feature.family in ("book", "order_flow", "trades", "volatility", "clock", "regime")
        assert "{" not in feature.meaning
        assert 0 <= feature.warmup_s < math.inf
        assert feature.unit or feature.name.startswith("hour_")
    assert len(VERSION) == 12


def test_sets_hold_known_names_once_and_no_price_levels_for_models():
    for names in SETS.values():
        assert len(set(names)) == len(names)
        assert [NAMES[i] for i in columns(names)] == list(names)
    assert not {"mid", "weighted_mid", "microprice"} & set(SETS["l2_core"])
    assert set(SETS["all"]) >= REGIMES
    assert not set(SETS["l2_core"]) & REGIMES


def _missing(name, glossary, oracles):
    """Return what a feature still lacks, in words."""
    told = {"a line in docs/glossary.md (python docs/generate.py)": f"| `{name}` |" in glossary}
    stem = re.sub(r"(_\d+)+$", "", name)
    told["an oracle in tests/naive_*.py or tests/tasks/features"] = stem in oracles
    return [what for what, is_there in told.items() if not is_there]


def test_every_feature_has_its_line_and_its_oracle():
    root = Path(__file__).resolve().parents[3]
    glossary = (root / "docs" / "glossary.md").read_text(encoding="utf-8")
    files = [*root.glob("tests/naive*.py"), *(root / "tests" / "tasks" / "features").glob("test_*.py")]
    oracles = "".join(path.read_text(encoding="utf-8") for path in files)
    declared = (*FEATURES, *BAR_FEATURES, *CROSS_FEATURES)
    assert {f.name: lacks for f in declared if (lacks := _missing(f.name, glossary, oracles))} == {}
    assert len(_missing("no_such_feature_of_ours"[::-1], glossary, oracles)) == 2


def test_sets_name_columns_of_their_tables():
    known = {"features": NAMES, "bars": BAR_NAMES, "consolidated": CROSS_NAMES}
    sizes = {name: len(names) for name, (_, names) in FEATURE_SETS.items()}
    assert (sizes["bars_41"], sizes["cross_venue_15"], sizes["cross_venue_10"]) == (41, 15, 10)
    for table, names in FEATURE_SETS.values():
        assert set(names) <= set(known[table])


def test_unknown_names_are_told():
    with pytest.raises(KeyError, match="no_such"):
        columns(("mid", "no_such"))


def check_warmup(meta, out, ruled=RULED):
    clean = meta["clean_ns"][:, None]
    usable = (meta["doubt"] == OK) & ~np.isnan(out[:, 0])
    expected = np.where(usable[:, None], clean < WARMUP_NS, True)
    differing = (np.isnan(out) != expected)[:, ruled]
    assert not differing.any(), [(int(n), np.array(NAMES)[ruled][k]) for n, k in np.argwhere(differing)[:5]]
    assert not np.isinf(out).any()


@pytest.mark.parametrize("offset_ns", [0, 1, 250_000_000, 999_999_999])
def test_a_number_is_missing_exactly_during_its_warmup(offset_ns):
    since = START_NS // SECOND * SECOND + offset_ns
    spans = {int(w) for w in WARMUP_NS} - {int(7200e9)}
    ns = np.array(sorted({since + max(0, w + d) for w in spans for d in (-1, 0, 1)} | {since + k * SECOND + 7 for k in range(310)}))
    rng = np.random.default_rng(offset_ns)
    books = books_at(ns, 100.0 + rng.integers(0, 3, len(ns)), 104.0 + rng.integers(0, 3, len(ns)), size=rng.random(len(ns)) + 0.5)
    trades = trades_at(ns[::2], 102.0, rng.random(len(ns[::2])), rng.choice((-1, 1), len(ns[::2])))
    meta, out = Features().batch(*in_order(books, trades, good(since)))
    Detectors().batch(meta, out)
    check_warmup(meta, out)


def test_warmup_of_a_busy_stream():
    check_warmup(*Features().batch(*market(3)), RULED & BEFORE_DETECTORS)


@settings(max_examples=60, deadline=None)
@given(streams())
def test_warmup_and_finite_numbers_whatever_comes(tables):
    check_warmup(*Features().batch(*tables), RULED & BEFORE_DETECTORS)
