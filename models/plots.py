"""Pictures of a training: each drawn from a summary, each a figure of its own.

Figures are made without pyplot: nothing global, nothing to close, safe in threads.
"""

import numpy as np
from matplotlib import ticker
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.style import BLUE, GREEN, GREY, INK, ORANGE, SKY, VERMILLION, clock_axis, say, styled, times
from models.summary import Summary
from models.verdict import Costs, taking_bps
from models.words import bounds, number, utc

FEES_BPS = (0.0, 0.5, 1.0, 2.0, 4.0)  # round trips that equity is drawn after, besides what taking costs


def figures(summary: Summary, costs: Costs | None = None) -> dict[str, Figure]:
    """Return every picture of a training by name: those of a report, and what a tracker keeps."""
    costs = costs or Costs()
    return {
        "roc": roc(summary),
        "calibration": calibration(summary),
        "importance": importance(summary),
        "folds": folds(summary),
        "equity": equity(summary, costs),
        "net": net(summary, costs),
        "labels": labels(summary),
    }


@styled
def roc(summary: Summary) -> Figure:
    """Return ups found against downs mistaken for ups: model, baseline and every fold."""
    figure = Figure(figsize=(6.0, 5.0), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (2, 3)), label="chance 0.500")
    for curve in summary.roc[2:]:
        axes.plot(curve["false_share"], curve["true_share"], color=BLUE, linewidth=0.8, alpha=0.35)
    naive, model = summary.intervals["baseline_auc"], summary.intervals["auc"]
    base, own = summary.roc[1], summary.roc[0]
    axes.plot(base["false_share"], base["true_share"], color=ORANGE, linewidth=2, linestyle="--", label=f"queue imbalance {_span(naive)}")
    axes.plot(own["false_share"], own["true_share"], color=BLUE, linewidth=2.4, label=f"model {_span(model)}")
    axes.plot([], [], color=BLUE, linewidth=0.8, alpha=0.5, label="model, fold by fold")
    axes.set(xlabel="falls mistaken for rises (share of falls)", ylabel="rises found (share of rises)", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.PercentFormatter(1.0))
    axes.legend(loc="lower right", title="area under the curve (95% bounds)", title_fontsize=9)
    return figure


@styled
def calibration(summary: Summary) -> Figure:
    """Return what was said against what came, with how often it was said below."""
    figure = Figure(figsize=(6.0, 5.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (2, 3)), label="honest odds")
    bins = summary.reliability
    said, came = [b["said"] for b in bins], [b["came"] for b in bins]
    reach = [[max(0.0, b["came"] - b["low"]) for b in bins], [max(0.0, b["high"] - b["came"]) for b in bins]]
    if bins:
        rows = f"{bins[0]['rows']:,}"
        above.errorbar(
            said, came, np.nan_to_num(reach), color=BLUE, marker="o", markersize=5, linewidth=1.6, elinewidth=1, capsize=2.5,
            label=f"model, {len(bins)} bins of {rows} rows (95% bounds)",
        )  # fmt: skip
    above.axhline(summary.metrics["up_share"], color=ORANGE, linewidth=1.2, linestyle="--", label="share of rises in all")
    above.set(ylabel="rose (share of rows that moved)", ylim=(-0.02, 1.02))
    above.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    above.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.1, ncols=2)
    edges, counts = summary.said["edges"], summary.said["rows"]
    below.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=SKY, edgecolor="white", linewidth=0.5)
    below.set(xlabel="probability of a rise that the model gave", ylabel="rows", xlim=(0, 1))
    below.xaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    below.yaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    below.yaxis.set_major_locator(ticker.MaxNLocator(3))
    return figure


@styled
def importance(summary: Summary, most: int = 20) -> Figure:
    """Return the features that gained most, with every fold's opinion, and how far they moved since training."""
    told = [f for f in summary.features if f["gain"] > 0 or any(gain > 0 for gain in f["folds"])]
    shown = told[:most][::-1]
    figure = Figure(figsize=(9.2, 0.9 + 0.27 * max(len(shown), 4)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    places = np.arange(len(shown))
    left.barh(places, [f["gain"] for f in shown], color=SKY, height=0.68, label="final model, fitted on all rows")
    per_fold = [(place, gain) for place, f in zip(places, shown, strict=True) for gain in f["folds"]]
    if per_fold:
        y, x = zip(*per_fold, strict=True)
        left.scatter(x, y, s=22, color=INK, alpha=0.75, linewidths=0, label="each fold", zorder=3)
    left.set_yticks(places, [f["name"] for f in shown])
    left.set(xlabel="share of all gain", title=f"{len(told)} of {len(summary.features)} features are used")
    left.set_ylim(-0.7, max(len(shown), 4) - 0.3)
    left.xaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
    left.grid(axis="y", visible=False)
    left.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1, ncols=2)
    psi = np.array([f["psi"] for f in shown], np.float64)
    colours = [GREY if value < 0.1 else ORANGE if value < 0.25 else VERMILLION for value in psi]
    held = np.minimum(psi, 1.0)  # far is far: what lies beyond is told in digits
    right.hlines(places, 0, held, color=colours, linewidth=1.5)
    right.scatter(held, places, s=26, color=colours, zorder=3)
    for place, value in zip(places[psi > 1], psi[psi > 1], strict=True):
        right.annotate(f"{value:.1f}", (1.0, place), (6, 0), textcoords="offset points", va="center", fontsize=8.5)
    for limit in (0.1, 0.25):
        right.axvline(limit, color=GREY, linewidth=0.9, linestyle=(0, (2, 3)))
    right.set(xlabel="PSI, last fold", title="Drift since training", xlim=(0, 1.25), xticks=(0, 0.5, 1.0))
    right.tick_params(axis="y", length=0)
    right.grid(axis="y", visible=False)
    return figure


@styled
def folds(summary: Summary) -> Figure:
    """Return AUC of model and baseline fold by fold, with bounds."""
    figure = Figure(figsize=(9.2, 2.9), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0.5, color=GREY, linewidth=1, linestyle=(0, (2, 3)))
    for shift, key, colour, marker, name in ((-0.09, "auc", BLUE, "o", "model"), (0.09, "baseline_auc", ORANGE, "s", "queue imbalance")):
        spans = np.array([fold[key] for fold in summary.folds]).reshape(-1, 3)
        reach = np.nan_to_num(np.abs(spans[:, 1:].T - spans[:, 0]))
        axes.errorbar(
            np.arange(len(spans)) + shift, spans[:, 0], reach, fmt=marker, color=colour, markersize=6, capsize=3, linewidth=1.4, label=name
        )
    axes.set_xticks(range(len(summary.folds)), [f"fold {f['number'] + 1}\n{utc(f['test_start_ns'])[5:]}" for f in summary.folds])
    axes.set(ylabel="AUC (95% bounds)", xlabel="test span, from (UTC)")
    axes.margins(x=0.08)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def equity(summary: Summary, costs: Costs) -> Figure:
    """Return the running sum of trades after round-trip costs, the model's and, before costs, the baseline's."""
    figure = Figure(figsize=(9.2, 3.9), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=INK, linewidth=0.9)
    if not summary.equity["exit_ns"]:
        return say(figure, axes, "no trades: no score was extreme enough")
    taking = taking_bps(summary, costs)
    curves = [(fee, f"{fee:g} bps") for fee in FEES_BPS if fee < taking] + [(taking, f"{taking:.2f} bps: taking")]
    colours = ["#004B76", BLUE, SKY, GREEN, ORANGE, VERMILLION]
    at = times(summary.equity["exit_ns"])
    gross, count = np.array(summary.equity["gross_bps"]), np.array(summary.equity["trades"])
    naive = summary.baseline_equity
    if naive["exit_ns"]:
        axes.step(
            times(naive["exit_ns"]), naive["gross_bps"], where="post", color=GREY, linestyle="--", linewidth=1.4,
            label=f"queue imbalance, 0 bps: {number(naive['gross_bps'][-1], 0, '+')}",
        )  # fmt: skip
    for (fee, name), colour in zip(curves, colours[: len(curves) - 1] + colours[-1:], strict=True):
        line = gross - fee * count
        width = 2 if fee in (0.0, taking) else 1.5
        axes.step(at, line, where="post", color=colour, linewidth=width, label=f"{name}: {number(line[-1], 0, '+')}")
    # What taking costs dwarfs everything else: leave it room to be seen falling, not to rule the scale.
    top = max(float(gross.max()), *naive["gross_bps"], 1.0)
    axes.set_ylim(max(float((gross - taking * count).min()), -4.0 * top) * 1.05, top * 1.15)
    axes.set(ylabel="sum of trades (bps of notional)", xlabel="time of exit (UTC)")
    clock_axis(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="round-trip cost: sum at the end", title_fontsize=9, alignment="left")
    return figure


@styled
def net(summary: Summary, costs: Costs) -> Figure:
    """Return what a trade leaves by cost and latency."""
    rows = summary.latencies
    tiers = sorted({*FEES_BPS, *(tier["cost_bps"] for tier in summary.tiers), round(taking_bps(summary, costs), 2)})
    figure = Figure(figsize=(9.2, 1.1 + 0.55 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    if not rows or not any(np.isfinite(row["gross_bps"][0]) for row in rows):
        return say(figure, axes, "no trades: no score was extreme enough")
    grid = np.array([[row["gross_bps"][0] - cost for cost in tiers] for row in rows])
    far = max(0.5, float(np.nanmax(np.abs(grid))))
    axes.imshow(grid, cmap="PuOr", norm=TwoSlopeNorm(0.0, -far, far), aspect="auto")
    for (i, j), value in np.ndenumerate(grid):
        low, high = (bound - tiers[j] for bound in rows[i]["gross_bps"][1:])
        sure = "bold" if low > 0 or high < 0 else "normal"
        ink = "white" if abs(value) > 0.62 * far else INK
        axes.text(j, i, number(value, 2, "+"), ha="center", va="center", fontsize=9, fontweight=sure, color=ink)
    axes.set_xticks(range(len(tiers)), [f"{cost:g}" for cost in tiers])
    axes.set_yticks(range(len(rows)), [f"{row['latency_ns'] / 1e6:g} ms ({row['trades']:,} trades)" for row in rows])
    axes.set(xlabel="cost of a round trip, all in (bps of notional)", ylabel="latency to the fill")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


@styled
def labels(summary: Summary) -> Figure:
    """Return how the labels fell, and how far the price went."""
    figure = Figure(figsize=(9.2, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    counts = [summary.labels[name] for name in ("down", "flat", "up")]
    total = max(sum(counts), 1)
    bars = left.bar(("down", "flat", "up"), counts, color=(VERMILLION, GREY, BLUE), width=0.65)
    left.bar_label(bars, [f"{count / total:.1%}" for count in counts], padding=2, fontsize=9)
    left.set(ylabel="rows", title="Direction", xlabel="class")
    left.margins(y=0.15)
    left.yaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    edges = np.array(summary.labels["return_bps"]["edges"])
    middle = (edges[1:] + edges[:-1]) / 2
    width = np.diff(edges)
    colours = np.where(np.abs(middle) < width / 2, GREY, np.where(middle < 0, VERMILLION, BLUE))
    right.bar(middle, summary.labels["return_bps"]["rows"], width=width * 0.92, color=colours.tolist())
    right.set_yscale("symlog", linthresh=10)
    right.set(xlabel=f"return over {summary.horizon_ns / 1e9:g} s (bps; the outer bars hold all beyond)", ylabel="rows (log)", title="Size")
    right.yaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    return figure


@styled
def latency(latency_ns: NDArray[np.int64]) -> Figure:
    """Return how long live scores took, from socket read to score."""
    figure = Figure(figsize=(9.2, 3.0), layout="constrained")
    axes = figure.subplots()
    took = np.asarray(latency_ns)[np.asarray(latency_ns) > 0] / 1e3
    if not len(took):
        return say(figure, axes, "no live predictions yet")
    edges = np.geomspace(max(took.min(), 0.1) * 0.95, took.max() * 1.05, 70)
    axes.hist(took, edges.tolist(), color=SKY, edgecolor="white", linewidth=0.4)
    for share, colour in ((50, BLUE), (95, ORANGE), (99, VERMILLION)):
        value = np.percentile(took, share)
        axes.axvline(value, color=colour, linewidth=1.8, label=f"p{share} {value:,.1f} µs")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:,g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set(xlabel="socket read to score (µs, log)", ylabel="predictions")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _span(interval: list[float]) -> str:
    return f"{number(interval[0], 3)} ({bounds(interval, 3)})"
