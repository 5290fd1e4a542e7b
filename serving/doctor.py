"""`tidebook doctor`: what is installed, reachable and writable, and how big the lake is."""

import json
import os
import shutil
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.table import Table

from flows.settings import HOME, Settings
from tasks.venues.directory import wire
from tasks.venues.errors import VenueError
from warehouse.errors import NoLakeError, WarehouseError
from warehouse.lake import Lake

PATIENCE_S = 2.0
FREE_BYTES = 1 << 30  # a day of one busy stream
REST = {
    "binance_spot": "https://api.binance.com/api/v3/ping",
    "binance_usdm": "https://fapi.binance.com/fapi/v1/ping",
    "binance_coinm": "https://dapi.binance.com/dapi/v1/ping",
}


@dataclass(frozen=True)
class Check:
    """One finding.  What is `needed` and not `ok` makes the doctor fail; the rest informs."""

    name: str
    ok: bool
    needed: bool
    detail: str


def examine(settings: Settings, venues: bool = False) -> list[Check]:
    """Return every finding about this machine and this lake."""
    return [*installed(), *storage(settings), *servers(settings), *(reachable(settings) if venues else ())]


def doctor(settings: Settings, as_json: bool = False, venues: bool = False, say: Callable[[str], None] = print) -> int:
    """Print the findings; return 0 if nothing that is needed is missing, else 1.

    Parameters
    ----------
    settings : Settings
    as_json : bool
        Print one JSON object with `ok` and `checks` instead of a table.
    venues : bool
        Also ask the venues of the configured streams, which needs a network.
    say : callable
        Takes the text.
    """
    checks = examine(settings, venues)
    failed = [check for check in checks if check.needed and not check.ok]
    if as_json:
        say(json.dumps({"ok": not failed, "checks": [asdict(check) for check in checks]}, indent=2))
        return int(bool(failed))
    table = Table("", "what", "found", box=None, padding=(0, 2, 0, 0))
    for check in checks:
        mark = "[green]ok[/]" if check.ok else "[red]missing[/]" if check.needed else "[yellow]no[/]"
        table.add_row(mark, check.name, check.detail)
    console = Console(width=None if sys.stdout.isatty() else 140)
    with console.capture() as captured:
        console.print(table)
    say(captured.get().rstrip("\n"))
    say(f"{len(failed)} of {len(checks)} checks failed" if failed else f"all that is needed is there ({len(checks)} checks)")
    return int(bool(failed))


def installed() -> Iterator[Check]:
    """Yield the interpreter and each dependency against the versions that work together."""
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    python = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", SpecifierSet(project["requires-python"]).contains(python), True, f"{python}, needs {project['requires-python']}")
    for line in project["dependencies"]:
        needed = Requirement(line)
        try:
            found = version(needed.name)
        except PackageNotFoundError:
            yield Check(needed.name, False, True, f"not installed, needs {line.removeprefix(needed.name)}")
            continue
        fits = needed.specifier.contains(found, prereleases=True)
        yield Check(needed.name, fits, True, f"{found}, needs {line.removeprefix(needed.name)}")
    client = shutil.which("duckdb") or shutil.which("duckdb", path=os.path.dirname(sys.executable))
    yield Check("duckdb command line", client is not None, False, client or "not on the path: opens warehouse.duckdb outside Python")


def storage(settings: Settings) -> Iterator[Check]:
    """Yield whether the lake can be written, how big it is and how much room it has."""
    try:
        lake = Lake(settings.lake, create=False)
        lake.check_writable()
    except NoLakeError as error:
        above = next(path for path in settings.lake.parents if path.exists())
        makable = above.is_dir() and os.access(above, os.W_OK | os.X_OK) and (settings.lake.is_dir() or not settings.lake.exists())
        yield Check("lake", makable, True, str(error) if makable else f"no lake at {settings.lake}, and none can be made there")
        yield _room(above)
        return
    except WarehouseError as error:
        yield Check("lake", False, True, str(error))
        return
    yield Check("lake", True, True, str(settings.lake))
    yield Check("lake size", True, False, f"{_bytes(lake.size())} in {len(lake.streams())} streams")
    damaged = ", ".join(map(str, lake.damaged()))
    yield Check("write-ahead log", not damaged, False, f"set aside as damaged: {damaged}" if damaged else "no damage found")
    yield _room(settings.lake)


def _room(path: Path) -> Check:
    free = shutil.disk_usage(path).free
    return Check("room on disk", free > FREE_BYTES, True, f"{_bytes(free)} free")


def servers(settings: Settings) -> Iterator[Check]:
    """Yield whether the servers of `tidebook up` answer."""
    for name, address in (("prefect", f"{settings.prefect_url}/api/health"), ("mlflow", f"{settings.mlflow_url}/health")):
        failure = _failure(address)
        yield Check(f"{name} server", not failure, False, f"{address}: {failure}; `tidebook up` starts it" if failure else address)


def reachable(settings: Settings) -> Iterator[Check]:
    """Yield whether the venues of the configured streams answer, all asked at once."""
    with ThreadPoolExecutor() as pool:
        addresses = {venue: REST.get(venue) or _rest_url(venue) for venue in settings.streams}
        for (venue, address), failure in zip(addresses.items(), pool.map(_failure, addresses.values()), strict=True):
            yield Check(venue, not failure, False, f"{address}: {failure}" if failure else address)


def _rest_url(venue: str) -> str:
    try:
        return str(wire(venue).rest_url)
    except (AttributeError, VenueError):
        return ""


def _failure(address: str) -> str:
    if not address:
        return "no address of it is known"
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE_S):
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code < 500 else str(error)  # it answered
    except OSError as error:
        return str(getattr(error, "reason", error))


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
