import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from tasks.detectors.fold import Detectors
from tasks.features.bar_catalogue import BAR_FEATURES, BAR_NAMES
from tasks.features.catalogue import FEATURES, NAMES, SETS, VERSION, Feature, columns
from tasks.features.cross_catalogue import CROSS_FEATURES, CROSS_NAMES
from tasks.features.fold import Features
from tasks.features.sets import FEATURE_SETS
from tests import naive_bars, naive_cross_venue, naive_detectors, naive_features
from tests.streams import SECOND, START_NS, books_at, good, in_order, market, streams, trades_at
from tests.tasks.features import test_bar_catalogue, test_book, test_cross_catalogue
from warehouse.schema import OK

REGIMES = naive_detectors.REGIMES  # the detectors fill them: tests/tasks/detectors/test_fold.py
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


# Features of a table, where they are declared to be computed another way, and what says how they read in the mirror.
TABLES = {
    "features": (FEATURES, "tests/naive_features.py", test_book),
    "bars": (BAR_FEATURES, "tests/naive_bars.py", test_bar_catalogue),
    "consolidated": (CROSS_FEATURES, "tests/naive_cross_venue.py", test_cross_catalogue),
}


@pytest.fixture(scope="module")
def computed():
    """The names that the definitions of each table compute when they are run, and the glossary."""
    names = {
        "features": naive_features.computes() | naive_detectors.REGIMES,
        "bars": naive_bars.computes(),
        "consolidated": naive_cross_venue.computes(),
    }
    return names, (Path(__file__).resolve().parents[3] / "docs" / "glossary.md").read_text(encoding="utf-8")


def _missing(table, feature, computed):
    """Return what a feature still lacks, in words."""
    names, glossary = computed
    _, oracle, mirror = TABLES[table]
    told = {
        "a line in docs/glossary.md: run python docs/generate.py": f"| `{feature.name}` |" in glossary,
        f"a definition in {oracle}": feature.name in names[table],
        f"a place in FLIPS, SAME or the like of {mirror.__name__}": mirror.has_image(feature.name),
        "its unit in POWERS of tests.tasks.features.test_book": feature.unit in test_book.POWERS,
    }
    return [what for what, is_there in told.items() if not is_there]


@pytest.mark.parametrize("table", TABLES)
def test_every_feature_has_its_line_its_definition_its_image_and_its_scale(table, computed):
    features, oracle, _ = TABLES[table]
    assert {feature.name: lacks for feature in features if (lacks := _missing(table, feature, computed))} == {}
    assert computed[0][table] - {feature.name for feature in features} == set(), f"{oracle} defines what is not declared"


@pytest.mark.parametrize("table", TABLES)
def test_what_a_new_feature_lacks_is_told(table, computed):
    new = Feature("skew_of_depth", "parsec", 0.0, "book", "arithmetic", "a new one")
    lacks = _missing(table, new, computed)
    assert len(lacks) == 4
    assert any(TABLES[table][1] in what for what in lacks)
    like_another = Feature("spread", "bps", 0.0, "book", "arithmetic", "part of a name that is computed")
    assert len(_missing(table, like_another, computed)) == 3


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
