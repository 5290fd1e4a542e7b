import io
from dataclasses import replace

import matplotlib
import numpy as np
import pytest

from models import plots
from models.examples import Choices
from models.summary import summarize
from models.training import train
from models.verdict import Costs
from tests.models.examples import SECOND, made_up

NAMES = {"roc", "calibration", "importance", "folds", "equity", "net", "labels"}


@pytest.fixture(scope="module")
def summary():
    examples = made_up(n=3000)
    return summarize(train(examples, Choices(horizon_ns=SECOND, n_folds=3, n_trees=15)), examples)


def texts(figure):
    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(out, format="svg")
    return out.getvalue()


def test_every_picture_has_data_and_units(summary):
    found = plots.figures(summary)
    assert set(found) == NAMES
    for name, figure in found.items():
        axes = figure.axes[0]
        assert axes.has_data(), name
        assert axes.get_xlabel() or figure.axes[-1].get_xlabel(), name
        assert len(texts(figure)) > 2000


def test_roc_draws_model_baseline_chance_and_each_fold(summary):
    axes = plots.roc(summary).axes[0]
    assert len([line for line in axes.lines if len(line.get_xdata()) > 1]) == 3 + len(summary.folds)


def test_equity_ends_where_costs_leave_it(summary):
    axes = plots.equity(summary, Costs(4.0)).axes[0]
    ends = {line.get_label().split(":")[0]: line.get_ydata()[-1] for line in axes.lines if ":" in str(line.get_label())}
    gross = summary.equity["gross_bps"][-1]
    assert ends["0 bps"] == pytest.approx(gross)
    assert ends["4 bps"] == pytest.approx(gross - 4 * summary.metrics["trades"])


def test_features_that_gained_nothing_are_left_out(summary):
    idle = {"name": "idle", "gain": 0.0, "folds": [0.0] * 3, "top20_share": 0.0, "psi": 9.0}
    figure = plots.importance(replace(summary, features=[*summary.features, idle]))
    assert "idle" not in texts(figure)


def test_latency_is_of_live_predictions_only():
    assert "no live predictions" in texts(plots.latency(np.zeros(5, np.int64)))
    told = texts(plots.latency(np.array([0, 10_000, 20_000, 30_000])))
    assert "p50 20.0 µs" in told
    assert "no live" not in told


def test_unknown_numbers_leave_pictures_standing(summary):
    none = [float("nan")] * 3
    empty = {"exit_ns": [], "gross_bps": [], "trades": []}
    bare = replace(
        summary,
        metrics=dict.fromkeys(summary.metrics, float("nan")),
        intervals=dict.fromkeys(summary.intervals, none),
        folds=[{**summary.folds[0], "auc": none, "baseline_auc": none}],
        roc=[{"of": of, "false_share": [], "true_share": []} for of in ("model", "baseline", "fold 1")],
        reliability=[],
        features=[],
        equity=empty,
        baseline_equity=empty,
        latencies=[{"latency_ns": 0, "trades": 0, "gross_bps": none}],
        tiers=[],
        stability=float("nan"),
    )
    for name, figure in plots.figures(bare).items():
        assert texts(figure), name


def test_drawing_leaves_the_style_of_others_alone(summary):
    before = dict(matplotlib.rcParams)
    plots.figures(summary)
    assert dict(matplotlib.rcParams) == before
