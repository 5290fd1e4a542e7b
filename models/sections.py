"""What the page of a model says, section by section, as HTML; cells and captions are HTML already."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.summary import Summary
from models.verdict import Costs, Verdict, taking_bps
from models.words import bounds, count, duration, number, share, utc

Ints = NDArray[np.int64]

_SHARPE_S = 86_400.0  # a shorter test span makes any annualised number absurd
_CAUSES = {
    "start": "before the stream was complete, or features were not warm",
    "gap": "features or label touch a gap in the stream",
    "stale": "features or label touch a silence of the venue",
    "crossed": "features or label touch a crossed book",
    "resync": "features or label touch a book being rebuilt",
    "suspect": "features or label touch a stretch that other frames of the venue contradicted",
    "witness": "features or label touch a book that the venue's own snapshot contradicted",
    "quarantined": "features or label touch rows that break a rule: see the table quarantine",
    "no label": "the future was not recorded far enough, or volatility was not known yet",
    "flat": "the price did not move beyond the threshold: scored, but nothing to learn from",
    "purged": "training rows whose label looks into a test span, summed over folds",
    "embargoed": "training rows too near to a test span, summed over folds",
}


def opening(title: str, summary: Summary, found: Verdict, costs: Costs, why: str) -> str:
    """Return the head of the page: the verdict in words, and its few numbers."""
    span = f"{utc(summary.test_start_ns)} to {utc(summary.test_end_ns)} UTC"
    caveats = "".join(f"<li>{html.escape(line)}</li>" for line in found.caveats)
    decided = f"<p><b>Registry:</b> {html.escape(why)}.</p>\n" if why else ""
    auc, naive, gain = (summary.intervals[name] for name in ("auc", "baseline_auc", "auc_gain"))
    pays = summary.intervals["break_even_bps"]
    tiles = [
        ("AUC, model", number(auc[0], 3), f"{bounds(auc, 3)}, chance 0.5"),
        ("AUC, baseline", number(naive[0], 3), bounds(naive, 3)),
        ("Gain over baseline", number(gain[0], 3, "+"), bounds(gain, 3, "+")),
        ("Break-even cost", f"{number(pays[0], 2)} bps", f"{bounds(pays, 2)}, {count(summary.metrics['trades'])} trades"),
        ("Cost of taking", f"{taking_bps(summary, costs):.2f} bps", f"2 × {costs.taker_fee_bps:g} bps and the spread"),
    ]
    shown = "".join(f'<div class="tile"><span>{name}</span><b>{value}</b><span>{note}</span></div>' for name, value, note in tiles)
    return (
        f"<h1>{html.escape(title)}</h1>\n"
        f'<p class="under">A model of the next {summary.horizon_ns / 1e9:g} s, judged on {count(summary.metrics["rows"])} books '
        f"it had not seen, {span}.</p>\n"
        f'<section id="verdict"><div class="verdict {_colour(found)}"><h2>{html.escape(found.headline)}</h2>\n'
        f"<p>{html.escape(found.model)}</p>\n<p>{html.escape(found.money)}</p>\n{decided}{f'<ul>{caveats}</ul>' if caveats else ''}</div>\n"
        f'<div class="tiles">{shown}</div></section>'
    )


def _colour(found: Verdict) -> str:
    """Return the more sober of the two answers."""
    return str(max((found.beats_baseline, found.pays_taker), key=("yes", "maybe", "unknown", "no").index))


def book(drawn: Mapping[str, str], heat_s: float) -> str:
    """Return what the stream looked like."""
    return _figure(
        drawn["overview"],
        "Mid price up to the end of the test, a day at most. Grey: the stretch shown below. Hatched: doubtful, left out of training.",
    ) + _figure(
        drawn["heat_map"],
        f"The {heat_s:g} s in which most was traded: mean resting size of the best 20 levels by price and time, the mid, and trades by "
        "the taker's side; a dot's area is the size traded there. White lies beyond the levels kept. Below: size traded by takers, "
        "buying above the line, selling below. Hatched stretches are doubtful.",
    )


def ranking(drawn: Mapping[str, str], summary: Summary) -> str:
    """Return how well the scores rank, pooled and fold by fold, beside the baseline."""
    rows = []
    for name, key, digits, note in (
        ("AUC", "auc", 3, "1 is perfect, 0.5 chance"),
        ("Rank correlation with the return (IC)", "ic", 3, "over all rows, flat ones too"),
        ("Area under precision and recall", "pr_auc", 3, f"chance {number(summary.metrics['up_share'], 3)}"),
        ("Right among the surest 10%", "precision_at_10pct", 3, "chance 0.5"),
        ("Log loss", "log_loss", 4, "less is better; baseline: the share of rises"),
        ("Brier score", "brier", 4, "less is better, a coin has 0.25"),
        ("Calibration error", "ece", 4, "less is better"),
        ("Break-even cost of a round trip (bps)", "break_even_bps", 2, "mean of a trade before costs"),
        ("Trades", "trades", 0, "one at a time, on limits learnt from the past"),
    ):
        model, naive = summary.metrics.get(key, math.nan), summary.baseline.get(key, math.nan)
        spans = [bounds(summary.intervals.get(of, [math.nan] * 3), digits) for of in (key, f"baseline_{key}")]
        rows.append([f"{name}<br><small>{note}</small>", number(model, digits), spans[0], number(naive, digits), spans[1]])
    pooled = _table("All folds together, out of sample", ("", "model", "95% bounds", "queue imbalance", "95% bounds"), rows)
    head = ("fold", "AUC model", "AUC baseline", "gain", "IC model", "IC baseline", "log loss", "Brier", "calibration error",
            "break-even (bps)", "trades")  # fmt: skip
    scores, cuts = [], []
    for fold in summary.folds:
        m, name = fold["metrics"], str(fold["number"] + 1)
        scores.append([
            name, _with_bounds(fold["auc"]), _with_bounds(fold["baseline_auc"]), _with_bounds(fold["auc_gain"], "+"),
            *(number(m.get(key, math.nan), 3) for key in ("ic", "baseline_ic", "log_loss", "brier", "ece")),
            number(m.get("break_even_bps", math.nan), 2), count(m.get("trades", math.nan)),
        ])  # fmt: skip
        sizes = (count(fold[key]) for key in ("trained", "purged", "embargoed", "tested", "n_trees"))
        cuts.append([name, utc(fold["test_start_ns"]), utc(fold["test_end_ns"]), *sizes])
    cut_head = ("fold", "test from (UTC)", "to (UTC)", "rows trained on", "purged", "embargoed", "rows tested", "trees")
    return (
        "<p>Each fold trains on the past and is judged on what follows; rows whose label looks into the test span are purged. The "
        "baseline is queue imbalance alone: size waiting at the best bid less that at the best ask, over their sum. It has learnt "
        "nothing.</p>"
        f'<div class="pair">{_figure(drawn["roc"], "Out-of-sample ROC on rows whose price moved; thin lines are single folds.")}'
        f"{_figure(drawn['calibration'], 'Of moments that were given a probability, how many rose; below, how often it was given.')}</div>"
        f"{_figure(drawn['folds'], 'Fold by fold. Bounds come from drawing whole blocks of time, since neighbouring rows are alike.')}"
        f"{pooled}{_table('Fold by fold', head, scores)}{_table('How the folds were cut', cut_head, cuts)}"
    )


def features(drawn: Mapping[str, str], summary: Summary) -> str:
    """Return which features the trees split on, and how far these moved."""
    return _figure(
        drawn["importance"],
        "Left: share of what all splits gained. Dots far apart are opinions that differ from fold to fold; the folds' rankings "
        f"correlate by {number(summary.stability, 2)} on average. Right: how far a feature's distribution moved between training and test "
        "of the last fold (population stability index: above 0.1 some, above 0.25 much).",
    )


def money(drawn: Mapping[str, str], summary: Summary, costs: Costs) -> str:
    """Return what the trades leave after costs."""
    span_s, extreme = (summary.test_end_ns - summary.test_start_ns) * 1e-9, summary.choices.get("trade_share", math.nan)
    rows = [
        [
            f"{tier['cost_bps']:g} bps", number(tier["net_bps"][0], 2, "+"), bounds(tier["net_bps"], 2, "+"),
            number(tier["total_bps"], 0, "+"), share(tier["win_rate"]), number(tier["sharpe"] if span_s >= _SHARPE_S else math.nan, 1),
            share(tier["deflated_sharpe"]), number(tier["max_drawdown_bps"], 0),
        ]
        for tier in summary.tiers
    ]  # fmt: skip
    head = ("cost of a round trip", "net a trade (bps)", "95% bounds", "sum (bps)", "trades won", "Sharpe, annualised",
            "deflated Sharpe (chance)", "worst drawdown (bps)")  # fmt: skip
    return (
        f"<p>Trades are the plainest: in where the score is among the most extreme {share(extreme, 0)} by the past's measure, out after "
        f"{summary.horizon_ns / 1e9:g} s, one at a time, priced at the mid. Costs, spread included, come off after. Taking costs "
        f"{taking_bps(summary, costs):.2f} bps a round trip here.</p>"
        + _figure(drawn["equity"], "Running sum of out-of-sample trades after each cost. Where the scale ends, the sum goes on falling.")
        + _figure(drawn["net"], "What a trade leaves (bps) by cost and by latency from book to fill. Bold: zero is outside the 95% bounds.")
        + _table("After costs, without latency", head, rows)
        + f"<p><small>A Sharpe ratio is annualised from elapsed time, 365 days, and left out where that is below a day (here "
        f"{duration(span_s)}); the deflated one is the chance that the true ratio beats what the best of all tried models shows by "
        "luck.</small></p>"
    )


def rows(drawn: Mapping[str, str], summary: Summary) -> str:
    """Return how many rows were learnt from, and why others were not."""
    every = max(summary.rows, 1)
    rows = [[html.escape(cause), count(n), share(n / every), _CAUSES.get(cause, "")] for cause, n in summary.lost.items() if n]
    return (
        f"<p>Of {count(summary.rows)} books, {count(summary.usable)} have features and a label that touch nothing doubtful.</p>"
        + _figure(drawn["labels"], f"What followed within {summary.horizon_ns / 1e9:g} s: direction, and how far.")
        + _table("Rows not learnt from", ("cause", "rows", "of all", ""), rows, "none was lost", "noted")
    )


def live(drawn: Mapping[str, str], latency_ns: Ints, model_version: Ints, doubt: Ints) -> str:
    """Return how long live scores took, from socket read to score; replays have no latency."""
    took = latency_ns
    if not (took > 0).any():
        told = f"{count(len(took))} predictions of replays are stored, which have no latency" if len(took) else "No predictions are stored"
        return f"<p>{told}. Once books are scored live, the time from socket read to score stands here.</p>"
    p50, p95, p99 = np.percentile(took[took > 0], [50, 95, 99]) / 1e3
    versions = ", ".join(str(version) for version in np.unique(model_version))
    doubtful = int((doubt != 0).sum())
    return (
        f"<p>{count((took > 0).sum())} live predictions by model version {versions}, {count(doubtful)} of them on doubtful books. From "
        f"socket read to score: p50 {p50:,.1f} µs, p95 {p95:,.1f} µs, p99 {p99:,.1f} µs.</p>"
        + _figure(drawn["latency"], "Socket read to score on our clock: live predictions, of the last day that has any.")
    )


def made(summary: Summary, made: Mapping[str, Any]) -> str:
    """Return data, code and choices that the model was made from."""
    chosen = {name: value for name, value in summary.choices.items() if name != "params"}
    tried = {"test span": f"{utc(summary.test_start_ns)} to {utc(summary.test_end_ns)} UTC", "parameter sets tried": summary.n_trials}
    tables = (("Data and code", {**made, **tried}), ("Choices of the training", chosen), ("Parameters of the trees", summary.params))
    shown = "".join(_table(name, ("", ""), _words(values), kind="words") for name, values in tables)
    return f'<p>The same data, code, choices and seed give the same model.</p>\n<div class="columns">{shown}</div>'


def _words(values: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, value in values.items():
        if name.endswith("_ns") and isinstance(value, int):
            name, value = name.removesuffix("_ns"), f"{value / 1e9:g} s"
        rows.append([html.escape(str(name).replace("_", " ")), html.escape(f"{value:g}" if isinstance(value, float) else str(value))])
    return rows


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], empty: str = "nothing to show", kind: str = "") -> str:
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    body = body or f'<tr><td colspan="{len(head)}">{empty}</td></tr>'
    names = f"<thead><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr></thead>" if any(head) else ""
    return f'<div class="scroll"><table class="{kind}"><caption>{caption}</caption>{names}<tbody>\n{body}</tbody></table></div>\n'


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>\n"


def _with_bounds(interval: Sequence[float], sign: str = "") -> str:
    return f"{number(interval[0], 3, sign)}<br><small>{bounds(interval, 3, sign)}</small>"
