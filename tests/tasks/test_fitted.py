import numpy as np
import pytest

from models.fits import Fits
from models.garch import Garch
from models.microprice import Microprice
from tasks.features.catalogue import NAMES
from tasks.featurize import featurize, waves
from tasks.fitted import fit, in_force
from tasks.label import label
from tasks.record import Recorder
from tasks.venues.events import BOOK, CHANGE, TRADE
from tests.streams import KINDS, good, lake_of, market
from warehouse.columns import DAY_NS
from warehouse.expectations import Findings, Stretch
from warehouse.quarantine import mark
from warehouse.rules import RULES
from warehouse.schema import GAP

VENUE, SYMBOL = "binance_usdm", "BTC-USDT-PERP"
DAYS = ("2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04")
FIRST = int(np.datetime64(DAYS[0], "ns").astype(np.int64))
RULE = next(iter(RULES["l2_snapshots"]))
OTHER = Fits(Microprice(0.1, np.array([[0.0, 0.0], [0.2, 0.4]])), {1: Garch(1e-10, 0.3, 0.5)})


def four_days():
    """Return five minutes at noon of each of four days, as one stream that is lost in between."""
    parts, last = [], 0
    for k in range(len(DAYS)):
        tables = market(k, n=1500, mean_ns=200_000_000, start_ns=FIRST + k * DAY_NS + DAY_NS // 2)
        for rows in tables:
            rows["event_seq"] += last
        last = max(int(rows["event_seq"].max()) for rows in tables) + 2
        end = good(max(int(rows["exchange_ns"].max()) for rows in tables), last - 1, GAP)
        tables = (*tables[:2], np.concatenate([tables[2], end]))
        parts.append(tables)
    tables = [np.concatenate(rows) for rows in zip(*parts, strict=True)]
    for rows in tables:
        rows["seq"] = np.arange(rows.size)
    return tables


def extended(lake, tables, session_id):
    with lake.writer() as writer:
        session = writer.session(VENUE, SYMBOL, session_id, KINDS)
        for table, rows in zip(KINDS, tables, strict=True):
            rows = rows.copy()
            rows["seq"] = session.base[table] + np.arange(rows.size)
            session.append(table, rows)
        writer.commit()


def built(lake):
    return [featurize(lake, VENUE, SYMBOL, day) for day in DAYS]


@pytest.fixture(scope="module")
def tables():
    return four_days()


@pytest.fixture(scope="module")
def lake(tables, tmp_path_factory):
    lake = lake_of(tmp_path_factory.mktemp("fitted"), VENUE, SYMBOL, tables)
    built(lake)
    return lake


def test_a_day_is_folded_with_what_ended_a_day_before_it(lake):
    manifests = [lake.manifest("features", VENUE, SYMBOL, day) for day in DAYS]
    fits = [in_force(lake, VENUE, SYMBOL, day) for day in DAYS]
    assert [m["fits"] for m in manifests] == [f.id for f in fits]
    assert [f.id for f in fits[:2]] == ["", ""]
    assert fits[2].id != fits[3].id
    assert [f.last_day for f in fits[2:]] == list(DAYS[:2])
    assert fits[2].microprice.id
    assert 1 in fits[2].garch
    assert 60 not in fits[2].garch, "of five minutes there are too few"
    assert in_force(lake, VENUE, SYMBOL, "2026-01-05").last_day == DAYS[2], "kept before its day begins"
    assert in_force(lake, VENUE, SYMBOL, "2026-01-20") == Fits(), "too old"


def test_later_days_change_no_fit(lake, tables, tmp_path):
    until = FIRST + 2 * DAY_NS
    early = lake_of(tmp_path, VENUE, SYMBOL, [rows[rows["exchange_ns"] < until] for rows in tables])
    for day in DAYS[:2]:
        featurize(early, VENUE, SYMBOL, day)
    assert in_force(early, VENUE, SYMBOL, DAYS[2]) == in_force(lake, VENUE, SYMBOL, DAYS[2])


def test_features_as_they_happen_are_those_of_the_lake(lake, tables):
    seen = []

    class Seeing:
        def predict(self, features, meta, out):
            seen.append(features.copy())

    recorder = Recorder(lake, VENUE, "live", lambda: Seeing(), tables=())
    scored = recorder.stream("BTCUSDT").scored
    for _, kind, i in sorted((int(row["event_seq"]), kind, i) for kind, rows in enumerate(tables) for i, row in enumerate(rows)):
        scored.take((BOOK, TRADE, CHANGE)[kind], tables[kind][i : i + 1], 0)
        if kind == 0 and i % 1000 == 0:
            recorder.look_ahead()
    recorder.writer.close()
    table = lake.read("features", VENUE, SYMBOL, columns=list(NAMES))
    made, known = np.array(seen), np.column_stack([table[name].to_numpy() for name in NAMES])
    differing = np.argwhere(made.view(np.int64) != np.ascontiguousarray(known).view(np.int64))
    assert [(int(n), NAMES[k]) for n, k in differing[:5]] == []


def test_another_fit_makes_its_day_and_the_following_anew(lake, tables, tmp_path):
    own = lake_of(tmp_path, VENUE, SYMBOL, tables)
    built(own)
    assert all(m["skipped"] for m in built(own))
    assert [list(wave.values()) for wave in waves(own, "BTC", days=0)] == [[[]]]
    before = [own.manifest("features", VENUE, SYMBOL, day) for day in DAYS]
    own.save_state(f"fits-1/{VENUE}/{SYMBOL}/{DAYS[2]}", OTHER.content)
    assert [list(wave.values()) for wave in waves(own, "BTC", days=0)] == [[list(DAYS[2:])]]
    again = built(own)
    assert [m["skipped"] for m in again] == [True, True, False, False]
    assert again[2]["fits"] == OTHER.id
    assert again[3]["fits"] == before[3]["fits"]
    assert again[3]["carried"] != before[3]["carried"]
    assert label(own, VENUE, SYMBOL, DAYS[2])["microprice"] == OTHER.microprice.id


def test_a_day_that_a_scorer_has_begun_gets_no_fit(tables, tmp_path):
    scored = lake_of(tmp_path, VENUE, SYMBOL, [rows[rows["exchange_ns"] < FIRST + 3 * DAY_NS] for rows in tables])
    with scored.writer() as writer:
        writer.session(VENUE, SYMBOL, "live", ("signals",))
    assert scored.written_since("signals", VENUE, SYMBOL) > FIRST + 2 * DAY_NS, "the scorer began on the third day"
    assert [featurize(scored, VENUE, SYMBOL, day)["fits"] for day in DAYS[:3]] == ["", "", ""]
    assert in_force(scored, VENUE, SYMBOL, DAYS[3]).last_day == DAYS[1], "the next one does, a day ahead"


def test_a_day_that_a_scorer_has_begun_looks_back_to_no_fit_made_since(tables, tmp_path):
    scored = lake_of(tmp_path, VENUE, SYMBOL, tables)
    with scored.writer() as writer:
        writer.session(VENUE, SYMBOL, "live", ("signals",))
    assert in_force(scored, VENUE, SYMBOL, DAYS[3]).id == "", "what the scorer took"
    assert [m["fits"] for m in built(scored)] == [""] * 4
    assert in_force(scored, VENUE, SYMBOL, "2026-01-05").last_day == DAYS[2]


def test_a_fit_is_made_anew_until_its_day_begins(tables, tmp_path):
    noon = FIRST + DAY_NS // 2
    ends = noon + 200_000_000_000
    until = lake_of(tmp_path, VENUE, SYMBOL, [rows[rows["exchange_ns"] < ends] for rows in tables])
    key = f"fits-1/{VENUE}/{SYMBOL}/{DAYS[2]}"
    found = []

    def fitted():
        fit(until, VENUE, SYMBOL, DAYS[2])
        found.append(until.load_state(key))
        return len(set(found))

    assert [fitted(), fitted()] == [1, 1]
    extended(until, [rows[(rows["exchange_ns"] >= ends) & (rows["exchange_ns"] < FIRST + DAY_NS)] for rows in tables], "two")
    assert [fitted(), fitted()] == [2, 2], "more books"
    mark(until, VENUE, SYMBOL, DAYS[0], Findings({}, {}, {}, (Stretch("l2_snapshots", RULE, FIRST, noon + 60_000_000_000, 9),)))
    assert [fitted(), fitted()] == [3, 3], "some of them in quarantine"
    extended(until, [rows[rows["exchange_ns"] >= FIRST + 2 * DAY_NS] for rows in tables], "three")
    mark(until, VENUE, SYMBOL, DAYS[0], Findings({}, {}, {}))
    assert fitted() == 3, "the day has begun"


def test_too_little_leaves_things_as_they_were(tmp_path, tables):
    few = lake_of(tmp_path, VENUE, SYMBOL, [rows[rows["exchange_ns"] < FIRST + DAY_NS // 2 + 5_000_000_000] for rows in tables])
    few.save_state(f"fits-1/{VENUE}/{SYMBOL}/{DAYS[1]}", OTHER.content)
    assert fit(few, VENUE, SYMBOL, DAYS[2]).id == OTHER.id
    assert fit(few, VENUE, "ETH-USDT-PERP", DAYS[2]) == Fits()
