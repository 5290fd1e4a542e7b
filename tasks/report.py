"""One page about one model: the verdict in words first, then what it rests on.

The page is a single file: pictures and style are inside it, it asks nothing of any network,
and it reads the same in ten years.
"""

import html
import io
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from prefect import task

from models import plots
from models.errors import NoChampionError
from models.heatmap import heat_map, overview
from models.registry import Registry
from models.summary import Summary
from models.verdict import Costs, Verdict, taking_bps, verdict
from models.words import bounds, count, duration, number, share, utc
from warehouse.lake import Lake
from warehouse.quarantine import left_out
from warehouse.schema import FINDINGS

HEAT_S = 60.0  # of the stream in the heat map: longer, and 20 levels are a thread
_SPAN_NS = 86_400_000_000_000  # of a stream, at most, is read for pictures
_SHARPE_S = 86_400.0  # a shorter test span makes any annualised number absurd
_PAGE = Path(__file__).with_name("report.html")
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


def figures(lake: Lake, venue: str, symbol: str, summary: Summary, costs: Costs | None = None, heat_s: float = HEAT_S) -> dict[str, Figure]:
    """Return every picture of the page by name; each can be saved or logged by itself.

    Parameters
    ----------
    heat_s : float
        Seconds of the stream in the heat map: those in which most was traded, of the day that
        ends with the test span.
    """
    base, quote, *_ = [*symbol.split("-"), "quote"]
    end = summary.test_end_ns + 1
    touch = lake.read("l2_snapshots", venue, symbol, end - _SPAN_NS, end, columns=["exchange_ns", "bid_px_00", "ask_px_00"])
    ns, bid, ask = (touch[name].to_numpy() for name in ("exchange_ns", "bid_px_00", "ask_px_00"))
    start, end = _busiest(lake, venue, symbol, ns, int(heat_s * 1e9))
    doubts = _doubts(lake, venue, symbol)
    books, trades = (lake.rows(table, venue, symbol, start, end) for table in ("l2_snapshots", "trades"))
    return {
        "overview": overview(ns, bid, ask, doubts, (start, end), quote),
        "heat_map": heat_map(books, trades, doubts, base, quote),
        **plots.figures(summary, costs),
        "latency": plots.latency(_recent_predictions(lake, venue, symbol)["latency_ns"].to_numpy()),
    }


def build_report(
    lake: Lake,
    venue: str,
    symbol: str,
    summary: Summary,
    out_path: Path,
    made: Mapping[str, Any] | None = None,
    costs: Costs | None = None,
    heat_s: float = HEAT_S,
) -> Path:
    """Write the page of one model and return its path; a reader never sees half of one.

    Parameters
    ----------
    summary : Summary
        Of the training, just made or kept: `Summary.from_dict(json.loads(...))`.
    made : mapping, optional
        What the model was made from, and what became of it: model version, lake versions,
        catalogue, commit, days, why it was promoted or not.  Shown as it is.
    costs : Costs, optional
        Fees a side that the verdict holds against the signal.
    """
    costs = costs or Costs()
    drawn = {name: _svg(name, figure) for name, figure in figures(lake, venue, symbol, summary, costs, heat_s).items()}
    found = verdict(summary, costs)
    title = f"{symbol} on {venue}"
    sections = [
        ("book", "Order book and trades", _book(drawn, heat_s)),
        ("ranking", "Does it know anything?", _ranking(drawn, summary)),
        ("features", "What it looks at", _features(drawn, summary)),
        ("money", "What it is worth after costs", _money(drawn, summary, costs)),
        ("rows", "What it learnt from", _rows(drawn, summary)),
        ("live", "How fast it scores live", _live(drawn, lake, venue, symbol)),
        ("made", "What made it", _made(summary, made or {})),
    ]
    body = [_opening(title, summary, found, costs, str((made or {}).get("why", "")))]
    body += [f'<section id="{key}">\n<h2>{name}</h2>\n{content}\n</section>' for key, name, content in sections]
    contents = [("verdict", "Verdict"), *((key, name) for key, name, _ in sections)]
    text = Template(_PAGE.read_text(encoding="utf-8")).substitute(
        title=html.escape(f"{title}: {found.headline}"),
        contents="\n".join(f'<li><a href="#{key}">{name}</a></li>' for key, name in contents),
        body="\n".join(body),
    )
    out_path = Path(out_path)
    out_path.parent.mkdir(parents=True, exist_ok=True)
    partial = out_path.with_name(f".{out_path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, out_path)
    return out_path


def report_version(
    lake: Lake, registry: Registry, venue: str, symbol: str, out_path: Path, version: int | None = None, costs: Costs | None = None
) -> Path:
    """Write the page of a registered version from what was kept of its training, and return its path.

    Parameters
    ----------
    version : int, optional
        By default the champion if it was trained on this stream, else the newest version that was.

    Raises
    ------
    NoChampionError
        If nothing was ever trained on the stream.
    """
    stream = {"venue": venue, "symbol": symbol}
    champion = registry.champion_version()
    if version is None and champion is not None and stream.items() <= registry.load(champion).tags.items():
        version = champion
    if version is None:
        newest = registry.newest(stream)
        if newest is None:
            raise NoChampionError(registry.name, f"any version of {venue} {symbol}")
        version, run_id, tags = newest
    else:
        found = registry.load(version)
        run_id, tags = found.run_id, found.tags
    summary = Summary.from_dict(registry.document(run_id, "summary.json"))
    made = {"model version": version, "champion now": champion, **tags}
    page = build_report(lake, venue, symbol, summary, out_path, made, costs)
    registry.attach(run_id, page)
    return page


def _busiest(lake: Lake, venue: str, symbol: str, book_ns: np.ndarray, length_ns: int) -> tuple[int, int]:
    """Return the stretch in which most was traded; the last one where nothing was."""
    if not book_ns.size:
        return 0, length_ns
    first, last = int(book_ns.min()), int(book_ns.max()) + 1
    if last - first <= length_ns:
        return first, last
    trades = lake.read("trades", venue, symbol, first, last, columns=["exchange_ns", "size"])
    if not trades.num_rows:
        return last - length_ns, last
    # Steps of a quarter, so that what happened is not at the edge of the picture.
    edges = np.arange(first, last, max(length_ns // 4, 1))
    traded = np.histogram(trades["exchange_ns"].to_numpy(), np.append(edges, last), weights=trades["size"].to_numpy())[0]
    best = int(np.argmax(np.convolve(traded, np.ones(4), "valid"))) if len(traded) >= 4 else 0
    start = min(int(edges[best]), last - length_ns)
    return start, start + length_ns


def _doubts(lake: Lake, venue: str, symbol: str) -> list[tuple[int, int, str]]:
    query = "SELECT start_ns, end_ns, state_name FROM coverage WHERE venue = $venue AND symbol = $symbol AND state <> 0"
    with lake.connect(venue, symbol) as connection:
        rows = connection.execute(query, {"venue": venue, "symbol": symbol}).fetchall()
    found = [(int(start), int(end), str(why)) for start, end, why in rows]
    return sorted(found + [(int(start), int(end), FINDINGS[kind]) for start, end, kind in left_out(lake, venue, symbol)])


def _recent_predictions(lake: Lake, venue: str, symbol: str) -> Any:
    """Return what was predicted in the day before the last prediction."""
    query = "SELECT max(exchange_ns) FROM predictions WHERE venue = $venue AND symbol = $symbol"
    with lake.connect() as connection:
        (last,) = connection.execute(query, {"venue": venue, "symbol": symbol}).fetchone() or (None,)
    since = 0 if last is None else int(last) - _SPAN_NS
    return lake.read("predictions", venue, symbol, since, columns=["latency_ns", "model_version", "doubt"])


# What the sections say


def _opening(title: str, summary: Summary, found: Verdict, costs: Costs, why: str) -> str:
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


def _book(drawn: Mapping[str, str], heat_s: float) -> str:
    return _figure(
        drawn["overview"],
        "Mid price up to the end of the test, a day at most. Grey: the stretch shown below. Hatched: doubtful, left out of training.",
    ) + _figure(
        drawn["heat_map"],
        f"The {heat_s:g} s in which most was traded: mean resting size of the best 20 levels by price and time, the mid, and trades by "
        "the taker's side; a dot's area is the size traded there. White lies beyond the levels kept. Below: size traded by takers, "
        "buying above the line, selling below. Hatched stretches are doubtful.",
    )


def _ranking(drawn: Mapping[str, str], summary: Summary) -> str:
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


def _features(drawn: Mapping[str, str], summary: Summary) -> str:
    return _figure(
        drawn["importance"],
        "Left: share of what all splits gained. Dots far apart are opinions that differ from fold to fold; the folds' rankings "
        f"correlate by {number(summary.stability, 2)} on average. Right: how far a feature's distribution moved between training and test "
        "of the last fold (population stability index: above 0.1 some, above 0.25 much).",
    )


def _money(drawn: Mapping[str, str], summary: Summary, costs: Costs) -> str:
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


def _rows(drawn: Mapping[str, str], summary: Summary) -> str:
    every = max(summary.rows, 1)
    rows = [[html.escape(cause), count(n), share(n / every), _CAUSES.get(cause, "")] for cause, n in summary.lost.items() if n]
    return (
        f"<p>Of {count(summary.rows)} books, {count(summary.usable)} have features and a label that touch nothing doubtful.</p>"
        + _figure(drawn["labels"], f"What followed within {summary.horizon_ns / 1e9:g} s: direction, and how far.")
        + _table("Rows not learnt from", ("cause", "rows", "of all", ""), rows, "none was lost", "noted")
    )


def _live(drawn: Mapping[str, str], lake: Lake, venue: str, symbol: str) -> str:
    found = _recent_predictions(lake, venue, symbol)
    took = found["latency_ns"].to_numpy()
    if not (took > 0).any():
        told = f"{count(len(took))} predictions of replays are stored, which have no latency" if len(took) else "No predictions are stored"
        return f"<p>{told}. Once books are scored live, the time from socket read to score stands here.</p>"
    p50, p95, p99 = np.percentile(took[took > 0], [50, 95, 99]) / 1e3
    versions = ", ".join(str(version) for version in np.unique(found["model_version"].to_numpy()))
    doubtful = int((found["doubt"].to_numpy() != 0).sum())
    return (
        f"<p>{count((took > 0).sum())} live predictions by model version {versions}, {count(doubtful)} of them on doubtful books. From "
        f"socket read to score: p50 {p50:,.1f} µs, p95 {p95:,.1f} µs, p99 {p99:,.1f} µs.</p>"
        + _figure(drawn["latency"], "Socket read to score on our clock: live predictions, of the last day that has any.")
    )


def _made(summary: Summary, made: Mapping[str, Any]) -> str:
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


# How it is written; cells and captions are HTML already


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], empty: str = "nothing to show", kind: str = "") -> str:
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    body = body or f'<tr><td colspan="{len(head)}">{empty}</td></tr>'
    names = f"<thead><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr></thead>" if any(head) else ""
    return f'<div class="scroll"><table class="{kind}"><caption>{caption}</caption>{names}<tbody>\n{body}</tbody></table></div>\n'


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>\n"


def _svg(name: str, figure: Figure) -> str:
    """Return a figure as SVG to stand inside a page: same figure, same text; no address in it."""
    out = io.StringIO()
    with rc_context({**plots.STYLE, "svg.hashsalt": name}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    opening, rest = text.split(">", 1)
    opening = re.sub(r'\s(?:xmlns(?::\w+)?|width|height)="[^"]*"', "", opening)
    rest = re.sub(r"<metadata>.*?</metadata>", "", rest, flags=re.DOTALL)
    return f'{opening} id="figure-{name}" role="img" aria-label="{name.replace("_", " ")}">{rest}'


def _with_bounds(interval: Sequence[float], sign: str = "") -> str:
    return f"{number(interval[0], 3, sign)}<br><small>{bounds(interval, 3, sign)}</small>"


report = task(report_version, name="report", task_run_name="report {venue} {symbol}")
