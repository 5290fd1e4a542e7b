import re
from dataclasses import replace

import numpy as np
import pytest

from models.errors import NoChampionError
from models.examples import Choices
from models.registry import Registry
from models.summary import summarize
from models.training import train
from tasks.report import build_report, figures, report_version
from tests.models.examples import SECOND, made_up
from tests.streams import market
from warehouse.lake import Lake
from warehouse.schema import GAP, OK, START, row_dtype

STREAM = ("binance_usdm", "BTC-USDT-PERP")
SECTIONS = ("verdict", "book", "ranking", "features", "money", "rows", "live", "made")


def filled(root, trades=True, took_ns=(), gap=False):
    """Return a lake of a made-up market, with predictions that took so long."""
    lake = Lake(root)
    books, traded, changes = market(n=900, start_ns=1_700_000_000 * SECOND)
    if gap:
        changes = np.concatenate([changes] * 3)
        changes["exchange_ns"] = books["exchange_ns"][[0, 100, 200]]
        changes["state"] = (OK, GAP, OK)
        changes["seq"] = changes["event_seq"] = np.arange(3)
    took = np.zeros(len(took_ns), row_dtype("predictions"))
    took["exchange_ns"], took["seq"], took["latency_ns"], took["model_version"] = books["exchange_ns"][0], np.arange(len(took)), took_ns, 3
    if len(took):
        took["doubt"][0] = START
    with lake.writer() as writer:
        session = writer.session(*STREAM, "made up")
        tables = {"l2_snapshots": books, "trades": traded if trades else traded[:0], "coverage_changes": changes, "predictions": took}
        for table, rows in tables.items():
            if len(rows):
                session.append(table, rows)
        writer.commit()
    return lake


@pytest.fixture(scope="module")
def examples():
    return made_up(n=3000)


@pytest.fixture(scope="module")
def summary(examples):
    return summarize(train(examples, Choices(horizon_ns=SECOND, n_folds=2, n_trees=20)), examples)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("report"), took_ns=[0, *range(10_000, 60_000, 500)], gap=True)


@pytest.fixture(scope="module")
def page(lake, summary, tmp_path_factory):
    made = {"model_version": 3, "catalogue": "abc", "commit": "0123<b>&\"'", "lake_trades": 7, "why": "it lost <sadly>"}
    return build_report(lake, *STREAM, summary, tmp_path_factory.mktemp("out") / "deep" / "report.html", made).read_text()


def test_page_has_every_section_and_the_contents_point_to_them(page):
    for section in SECTIONS:
        assert f'<section id="{section}">' in page
        assert f'<a href="#{section}">' in page
    assert re.findall(r'id="figure-(\w+)"', page) == [
        "overview", "heat_map", "roc", "calibration", "folds", "importance", "equity", "net", "labels", "latency",
    ]  # fmt: skip


def test_page_opens_with_the_verdict(page):
    words = re.sub(r"<[^>]+>", " ", page[page.index("<main>") :])[:2500]
    assert "queue imbalance alone does so" in words
    assert "bps a trade before costs (95% bounds" in words
    assert "taking costs" in words
    assert "it lost &lt;sadly&gt;" in words


def test_page_asks_nothing_of_any_network(page):
    assert "http" not in page
    assert not re.search(r"<(script|link|iframe|object|img)\b", page)
    for address in re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^")\s]+)', page):
        assert address.startswith(("#", "data:image/png;base64,")), address


def test_page_escapes_what_it_is_told(page):
    assert "0123&lt;b&gt;&amp;&quot;&#x27;" in page
    assert "<sadly>" not in page
    assert "<b>&" not in page


def test_page_says_what_made_it(page):
    for text in ("<td>lake trades</td><td>7</td>", "<td>seed</td><td>0</td>", "<td>horizon</td><td>1 s</td>", "sets tried", "test span"):
        assert text in page


def test_names_in_pictures_belong_to_one_picture_each(page):
    ids = re.findall(r'\sid="([^"]+)"', page)
    referred = set(re.findall(r'(?:url\(|href=")#([^")]+)', page))
    assert referred <= set(ids)
    assert all(ids.count(name) == 1 for name in referred)


def test_live_latency_is_told_in_percentiles(page):
    live = page[page.index('<section id="live">') : page.index('<section id="made">')]
    assert "100 live predictions by model version 3, 1 of them on doubtful books" in live
    assert "p50 34.8 µs" in live


def test_metrics_of_every_fold_stand_in_the_table(page, summary):
    for fold in summary.folds:
        assert f"{fold['auc'][0]:.3f}<br>" in page
        assert f"{fold['auc'][1]:.3f} to {fold['auc'][2]:.3f}" in page


def test_doubtful_stretches_are_shaded(lake, summary):
    found = figures(lake, *STREAM, summary)
    assert any(patch.get_hatch() for patch in found["overview"].axes[0].patches)


def test_same_inputs_make_the_same_page(lake, summary, tmp_path, page):
    made = {"model_version": 3, "catalogue": "abc", "commit": "0123<b>&\"'", "lake_trades": 7, "why": "it lost <sadly>"}
    out = build_report(lake, *STREAM, summary, tmp_path / "again.html", made)
    assert out.read_text() == page
    assert [path.name for path in tmp_path.iterdir()] == ["again.html"]


def test_without_predictions_or_trades_the_page_says_so(summary, tmp_path):
    page = build_report(filled(tmp_path, trades=False), *STREAM, summary, tmp_path / "report.html").read_text()
    assert "No predictions are stored" in page
    assert 'id="figure-heat_map"' in page
    assert 'id="figure-latency"' not in page


def test_replayed_predictions_have_no_latency_to_show(summary, tmp_path):
    page = build_report(filled(tmp_path, took_ns=[0] * 20), *STREAM, summary, tmp_path / "report.html").read_text()
    assert "20 predictions of replays are stored" in page


def test_empty_lake_and_unknown_numbers_still_make_a_page(summary, tmp_path):
    none = [float("nan")] * 3
    empty = {"exit_ns": [], "gross_bps": [], "trades": []}
    bare = replace(
        summary,
        metrics=dict.fromkeys(summary.metrics, float("nan")),
        baseline={},
        intervals=dict.fromkeys(summary.intervals, none),
        folds=[{**summary.folds[0], "auc": none, "baseline_auc": none, "auc_gain": none, "metrics": {}}],
        features=[],
        reliability=[],
        equity=empty,
        baseline_equity=empty,
        tiers=[],
        lost={},
        stability=float("nan"),
    )
    page = build_report(Lake(tmp_path), *STREAM, bare, tmp_path / "report.html").read_text()
    assert "Not measured against the baseline, and nothing was traded." in page
    assert "none was lost" in page
    assert not re.search(r"\bnan\b", re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL))


def test_one_fold_and_no_trades_are_enough(examples, tmp_path):
    result = train(examples, Choices(horizon_ns=SECOND, n_folds=1, n_trees=5, trade_share=0.0))
    page = build_report(filled(tmp_path), *STREAM, summarize(result, examples), tmp_path / "report.html").read_text()
    assert "model, fold by fold" in page
    assert "Fold by fold" in page


def test_version_is_drawn_from_what_its_run_kept(examples, tmp_path):
    registry, lake = Registry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts"), filled(tmp_path / "lake")
    with pytest.raises(NoChampionError, match=STREAM[1]):
        report_version(lake, registry, *STREAM, tmp_path / "report.html")
    result = train(examples, Choices(horizon_ns=SECOND, n_folds=2, n_trees=5))
    kept, tags = summarize(result, examples), {"venue": STREAM[0], "symbol": STREAM[1], "commit": "0123abc"}
    for _ in range(2):
        run = registry.log_training(
            result.model, result.names, result.calibration, run_name="a training", params={}, metrics={}, tags=tags,
            documents={"summary.json": kept.as_dict()},
        )  # fmt: skip
        registry.register(run, tags)
    made = {"model version": 2, "champion now": None, **tags}
    expected = build_report(lake, *STREAM, kept, tmp_path / "expected.html", made).read_text()
    assert report_version(lake, registry, *STREAM, tmp_path / "newest.html").read_text() == expected
    registry.set_champion(1, "it was first")
    page = report_version(lake, registry, *STREAM, tmp_path / "champion.html").read_text()
    assert "<td>model version</td><td>1</td>" in page
    assert "it was first" in page
