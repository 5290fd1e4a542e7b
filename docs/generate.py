"""Write into the pages what the code declares: features, tables, settings, deployments.

    python docs/generate.py

Each page keeps its words; only what stands between a `<!-- begin NAME -->` and its
`<!-- end -->` is replaced.  A test fails when a page and the code have come apart.
"""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from flows.settings import Settings  # noqa: E402
from tasks.detectors.state import VALUES  # noqa: E402
from tasks.features.bar_catalogue import BAR_FEATURES, BAR_VERSION, SPANS_S  # noqa: E402
from tasks.features.catalogue import FEATURES, SETS, VERSION, Feature  # noqa: E402
from tasks.features.cross_catalogue import CROSS_FEATURES  # noqa: E402
from tasks.features.sets import FEATURE_SETS  # noqa: E402
from warehouse.schema import LEVELS, PARTITION, STATES, TABLES, Column  # noqa: E402

_BLOCK = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_FAMILIES = {
    "book": "The book at this moment",
    "order_flow": "Order flow",
    "trades": "Trades",
    "volatility": "Volatility",
    "clock": "Clock",
    "regime": "Regime, filled by the detectors",
}
_NOT_DESCRIBED = {
    "prefect_port": "of the Prefect server, its API and UI; on loopback only",
    "mlflow_port": "of the MLflow UI; on loopback only",
    "taker_fee_bps": "what taking costs a side, in bps of notional: the costs in the report and in the barrier labels",
    "maker_fee_bps": "what making costs a side, in bps of notional: the other cost line of the report",
    "score": "whether to score what is recorded, with the champion",
}


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a Markdown table."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def features() -> str:
    """Return the glossary: every feature by family."""
    text = f"Catalogue `{VERSION}`, {len(FEATURES)} features; the set `l2_core` that models are trained on has {len(SETS['l2_core'])}.\n"
    core = set(SETS["l2_core"])
    for family, title in _FAMILIES.items():
        rows = [
            (
                f"`{f.name}`",
                f.unit,
                f"{f.warmup_s:g} s" if f.warmup_s else "",
                f.missing,
                f.meaning,
                f.source,
                "yes" if f.name in core else "",
            )
            for f in FEATURES
            if f.family == family
        ]
        text += f"\n### {title}\n\n" + table(("feature", "unit", "warm-up", "NaN", "meaning", "source", "in `l2_core`"), rows)
    missing = {f.family for f in FEATURES} - set(_FAMILIES)
    if missing:
        raise ValueError(f"families {sorted(missing)} have no title here")
    return text


_VALUES = {
    "cusum": ("sigma", "the CUSUM sum that is furthest from 0, its sign the direction"),
    "burst": ("sigma", "highest z-score of volume or realised volatility over any window"),
    "bocpd_change_prob": ("[0, 1]", "probability that the 1 s returns changed within the last five seconds"),
    "bocpd_run_length": ("s", "posterior mean of the time since the last change"),
    "spectral_residual": ("ratio", "salience of the last second's volatility"),
    "confirmed": ("0 or 1", "whether enough of the last seconds were salient, with volume"),
    "score": ("", "weighted sum of the detectors' values, each over its own threshold"),
    "threshold": ("", "what the score has to pass: a high quantile of its past, never below a floor"),
}


def _made_of(features: Iterable[Feature], unit: str, sets: dict[str, tuple[str, ...]]) -> str:
    rows = [
        (
            f"`{f.name}`", f.unit, f"{f.warmup_s:g} {unit}" if f.warmup_s else "", f.missing, f.meaning, f.source,
            ", ".join(f"`{name}`" for name, names in sets.items() if f.name in names),
        )
        for f in features
    ]  # fmt: skip
    return table(("feature", "unit", "warm-up", "NaN", "meaning", "source", "sets"), rows)


def others() -> str:
    """Return the glossary of what is made of bars, over venues and by detectors."""
    spans = ", ".join(f"{span} s" for span in SPANS_S)
    sets = {where: {name: names for name, (place, names) in FEATURE_SETS.items() if place == where} for where in ("bars", "consolidated")}
    text = f"### Bars\n\nVersion `{BAR_VERSION}`, columns of the table `bars`, the same on bars of {spans}.\n\n"
    text += _made_of(BAR_FEATURES, "bars", sets["bars"])
    text += "\n### Across venues\n\nColumns of the table `consolidated`.\n\n" + _made_of(CROSS_FEATURES, "s", sets["consolidated"])
    rows = [(f"`{name}`", *_VALUES[name]) for name in VALUES.names or ()]
    return text + "\n### Detectors\n\nWhat stands behind each row of `signals`.\n\n" + table(("value", "unit", "meaning"), rows)


def _columns(columns: Iterable[Column]) -> list[tuple[str, ...]]:
    kinds, rows = {"i8": "BIGINT", "f8": "DOUBLE", "str": "VARCHAR"}, []
    for column in columns:
        name, meaning = f"`{column.name}`", column.meaning
        stem, _, level = column.name.rpartition("_")
        if level.isdigit():
            if level != "00":
                continue
            name = f"`{stem}_00` to `{stem}_{LEVELS - 1:02d}`"
            meaning = meaning.replace("level 0", "each level, 00 the best")
        rows.append((name, kinds[column.kind], column.unit, meaning))
    return rows


def tables() -> str:
    """Return every table with its columns."""
    head = ("column", "type", "unit", "meaning")
    text = "Columns that every table begins with:\n\n" + table(head, _columns(PARTITION))
    for declared in TABLES.values():
        text += f"\n### {declared.name}\n\n{declared.meaning}\n\n" + table(head, _columns(declared.columns))
        if declared.open_kind:
            text += "\nand one DOUBLE for each feature of the [glossary](glossary.md).\n"
    return text


def states() -> str:
    """Return what the codes in `state` and `doubt` mean."""
    return ", ".join(f"{code} `{name}`" for code, name in enumerate(STATES)) + "\n"


def settings() -> str:
    """Return every setting of this machine with its variable and default."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if name == "streams":
            default = ",".join(f"{venue}:{symbol}" for venue, symbols in default.items() for symbol in symbols)
        if name == "lake_keep_days":
            default = ",".join(f"{what}:{days}" for what, days in default.items())
        rows.append((f"`TIDEBOOK_{name.upper()}`", f"`{str(default).lower() if isinstance(default, bool) else default}`",
                     _NOT_DESCRIBED.get(name) or field.description))  # fmt: skip
    return table(("variable", "default", "meaning"), rows)


def deployments() -> str:
    """Return what is deployed and when it runs."""
    rows = []
    for plan in yaml.safe_load((HERE.parent / "prefect.yaml").read_text())["deployments"]:
        when = [f"cron `{s['cron']}` UTC" if "cron" in s else f"every {s['interval']} s" for s in plan["schedules"]]
        when += [f"on the event `{event}`" for trigger in plan.get("triggers", []) for event in trigger["expect"]]
        flow = plan["entrypoint"].partition(":")[2]
        rows.append((f"`{flow}/{plan['name']}`", f"`{plan['entrypoint']}`", ", ".join(when), plan["description"]))
    return table(("deployment", "entrypoint", "when", "what it does"), rows)


BLOCKS: dict[str, Callable[[], str]] = {f.__name__: f for f in (features, others, tables, states, settings, deployments)}


def generated(text: str) -> str:
    """Return a page with its blocks as the code has them now."""
    return _BLOCK.sub(lambda found: found[1] + "\n" + BLOCKS[found[2]]() + "\n" + found[3], text)


def main() -> None:
    """Rewrite the pages that changed, and say which."""
    for page in sorted(HERE.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = generated(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(page.name)


if __name__ == "__main__":
    main()
