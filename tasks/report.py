"""One page about one model: the verdict in words first, then what it rests on.

The page is a single file: pictures and style are inside it, it asks nothing of any network,
and it reads the same in ten years.
"""

import html
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from prefect import task

from models import plots, sections
from models.errors import NoChampionError
from models.heatmap import heat_map, overview
from models.registry import Registry
from models.style import STYLE
from models.summary import Summary
from models.verdict import Costs, verdict
from warehouse.lake import Lake
from warehouse.quarantine import left_out
from warehouse.schema import FINDINGS

HEAT_S = 60.0  # of the stream in the heat map: longer, and 20 levels are a thread
_SPAN_NS = 86_400_000_000_000  # of a stream, at most, is read for pictures
_PAGE = Path(__file__).with_name("report.html")


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
    recent = _recent_predictions(lake, venue, symbol)
    told = (recent[name].to_numpy() for name in ("latency_ns", "model_version", "doubt"))
    parts = [
        ("book", "Order book and trades", sections.book(drawn, heat_s)),
        ("ranking", "Does it know anything?", sections.ranking(drawn, summary)),
        ("features", "What it looks at", sections.features(drawn, summary)),
        ("money", "What it is worth after costs", sections.money(drawn, summary, costs)),
        ("rows", "What it learnt from", sections.rows(drawn, summary)),
        ("live", "How fast it scores live", sections.live(drawn, *told)),
        ("made", "What made it", sections.made(summary, made or {})),
    ]
    body = [sections.opening(title, summary, found, costs, str((made or {}).get("why", "")))]
    body += [f'<section id="{key}">\n<h2>{name}</h2>\n{content}\n</section>' for key, name, content in parts]
    contents = [("verdict", "Verdict"), *((key, name) for key, name, _ in parts)]
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


def _svg(name: str, figure: Figure) -> str:
    """Return a figure as SVG to stand inside a page: same figure, same text; no address in it."""
    out = io.StringIO()
    with rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    opening, rest = text.split(">", 1)
    opening = re.sub(r'\s(?:xmlns(?::\w+)?|width|height)="[^"]*"', "", opening)
    rest = re.sub(r"<metadata>.*?</metadata>", "", rest, flags=re.DOTALL)
    return f'{opening} id="figure-{name}" role="img" aria-label="{name.replace("_", " ")}">{rest}'


report = task(report_version, name="report", task_run_name="report {venue} {symbol}")
