"""What a section hands back, and the table and file that are made of it."""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Result:
    """One measured line.

    `ratio` is how many times slower than ours it is (peers); `budget` and `kept` say what was
    promised for a line of ours and whether it held.
    """

    section: str
    who: str
    what: str
    value: float
    unit: str
    ratio: float | None = None
    budget: str = ""
    kept: bool | None = None
    note: str = ""


def _number(value: float) -> str:
    if value != value:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def show(results: list[Result], console: Console) -> None:
    """Print one table a section."""
    for section in dict.fromkeys(result.section for result in results):
        table = Table(title=section, title_justify="left", title_style="bold")
        for heading in ("", "measure", "value", "unit", "x ours", "budget", "note"):
            table.add_column(heading, justify="right" if heading in ("value", "x ours") else "left", overflow="fold")
        for result in results:
            if result.section != section:
                continue
            verdict = {None: "", True: "[green]kept[/]", False: "[red]missed[/]"}[result.kept]
            ratio = "" if result.ratio is None else f"{result.ratio:.1f}"
            promised = f"{result.budget} {verdict}".strip()
            table.add_row(result.who, result.what, _number(result.value), result.unit, ratio, promised, result.note)
        console.print(table)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def write(results: list[Result], path: Path, **about: object) -> None:
    """Write the results with what they were measured on."""
    taken_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    machine = {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version(), "taken_at": taken_at}
    lines = [{name: None if value != value else value for name, value in asdict(result).items()} for result in results]
    path.write_text(json.dumps({"about": {**about, **machine}, "results": lines}, indent=1) + "\n")
