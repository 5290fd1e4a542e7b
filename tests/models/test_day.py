import numpy as np

from models.day import day_picture, stretches
from warehouse.schema import BURST, DRIFT, row_dtype

SECOND = 1_000_000_000
START = int(np.datetime64("2026-01-02T10:00:00", "ns").astype(np.int64))
NAMES = ("mid", "imbalance_5", "ofi_5", "spread_bps", "vpin", "bocpd_change_prob")


def day(n=3000):
    ns = START + np.arange(n) * SECOND
    features = {name: np.linspace(0.0, 1.0, n) for name in NAMES}
    features["mid"] = 60_000.0 + np.cumsum(np.random.default_rng(0).normal(0, 1, n))
    return ns, features


def said(ns, kind, side):
    rows = np.zeros(len(ns), row_dtype("signals"))
    rows["exchange_ns"], rows["kind"], rows["side"] = ns, kind, side
    return rows


def words(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()] if axis.get_legend() else []


def test_panels_signals_and_units_are_told():
    ns, features = day()
    signals = np.concatenate([said(ns[[10, 500]], DRIFT, 1), said(ns[[900]], BURST, -1)])
    figure = day_picture(ns, features, signals)
    titles = [axis.get_ylabel() for axis in figure.axes]
    assert len(titles) == 6
    assert "quote" in titles[0]
    assert "base" in titles[2]
    assert "bps" in titles[3]
    assert words(figure.axes[0]) == ["drift, up: 2", "burst, down: 1"]
    marks = figure.axes[0].collections[1].get_offsets()
    assert np.allclose(marks[:, 1], features["mid"][[10, 500]])


def test_the_shade_holds_every_price_and_the_line_a_few_hundred_points():
    ns, features = day(20_000)
    features["mid"][7777] = 70_000.0
    panel = day_picture(ns, features, said(ns[:0], 0, 0)).axes[0]
    assert panel.collections[0].get_datalim(panel.transData).y1 >= 70_000.0
    assert len(panel.lines[0].get_xdata()) <= 901


def test_no_line_goes_across_what_is_not_to_be_trusted():
    ns, features = day()
    for values in features.values():
        values[1000:1200] = np.nan
    apart = np.array([[ns[2000], ns[2100]]])
    keep = np.r_[0:2000, 2100:3000]
    figure = day_picture(ns[keep], {name: values[keep] for name, values in features.items()}, said(ns[:0], 0, 0), apart)
    assert words(figure.axes[0]) == ["doubtful or missing"]
    for axis in figure.axes:
        assert len(axis.patches) == 2, "two shaded stretches"
        assert np.isnan(axis.lines[0].get_ydata()).sum() == 2
        assert (np.diff(axis.lines[0].get_xdata()) >= np.timedelta64(0)).all()


def test_what_is_unknown_all_day_says_so_and_an_empty_day_too():
    ns, features = day()
    features["vpin"][:] = np.nan
    figure = day_picture(ns, features, said(ns[:0], 0, 0))
    assert [text.get_text() for text in figure.axes[4].texts] == ["not known yet: still warming up"]
    features["mid"][:] = np.nan
    empty = day_picture(ns, features, said(ns[:0], 0, 0))
    assert "no features of this day" in empty.axes[0].texts[0].get_text()


def test_stretches_are_joined_and_cut_to_the_day():
    ns, mid = np.arange(10), np.full(10, 5.0)
    nothing = np.zeros((0, 2), np.int64)
    assert stretches(ns, mid, nothing, 0, 9).tolist() == []
    mid[[0, 4, 5]] = np.nan
    assert stretches(ns, mid, np.array([[-5, 0], [6, 7], [8, 99]]), 1, 9).tolist() == [[3, 7], [8, 9]]
