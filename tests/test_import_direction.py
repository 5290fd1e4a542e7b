"""The import arrow points one way.  This table is the arrow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOUNS = {
    "tasks.venues",
    "tasks.features",
    "tasks.detectors",
    "tasks.feed",
    "tasks.aligned",
    "tasks.fitted",
    "tasks.merged",
    "tasks.kept",
    "tasks.named",
    "warehouse",
    "models",
}

# Where a file lives -> what it may import, of ours and of the libraries we fence.  The longest
# matching key wins, so one module can be given more than its folder has.
MAY_IMPORT = {
    "flows": {"flows", "tasks", "warehouse", "models", "prefect"},
    "flows/alone.py": set(),
    "flows/settings.py": {"pydantic_settings"},
    "tasks": NOUNS | {"prefect"},
    "tasks/watch.py": {"tasks.venues", "tasks.feed", "warehouse.schema", "ccxt"},
    "tasks/record.py": {"tasks.recorder"},
    "tasks/recorder.py": {"tasks.feed", "tasks.named", "tasks.scored", "tasks.venues", "warehouse"},
    "tasks/scored.py": {"tasks.detectors", "tasks.features", "tasks.fitted", "tasks.named", "tasks.venues", "warehouse", "models.fits"},
    "tasks/stream.py": {"tasks.venues", "tasks.feed", "warehouse.schema"},
    "tasks/feed": {"tasks.feed", "tasks.venues", "warehouse.schema", "numba"},
    "tasks/feed/witness.py": {"msgspec"},
    "tasks/feed/line.py": {"tasks.feed", "tasks.venues", "warehouse.schema", "websockets"},
    "tasks/feed/opened.py": {"tasks.feed", "tasks.venues", "warehouse.schema", "websockets"},
    "tasks/broadcast.py": {"redis"},
    "tasks/relayed.py": {"tasks.broadcast", "redis"},
    "tasks/fetch.py": {"tasks.history", "warehouse", "prefect"},
    "tasks/history.py": {"warehouse.schema", "ccxt"},
    "tasks/replay.py": {"tasks.venues"},
    "tasks/order.py": NOUNS | {"tasks.replay"},
    "tasks/rerun.py": NOUNS | {"tasks.replay"},  # reads captures as a replay does, into other rows
    "tasks/verify.py": NOUNS | {"tasks.replay"},
    "tasks/aligned.py": {"tasks.features", "tasks.venues", "warehouse.schema"},
    "tasks/merged.py": {"tasks.features", "warehouse"},
    "tasks/fitted.py": {"tasks.features", "warehouse", "models"},
    "tasks/named.py": {"warehouse"},
    "tasks/kept.py": {"tasks.detectors", "tasks.features", "tasks.fitted", "warehouse"},
    "tasks/past.py": {
        "tasks.detectors",
        "tasks.features",
        "tasks.fitted",
        "tasks.kept",
        "tasks.named",
        "tasks.scored",
        "tasks.venues",
        "warehouse",
    },
    "tasks/score.py": NOUNS | {"prefect", "numba"},
    "tasks/report.py": NOUNS | {"prefect", "matplotlib"},
    "tasks/monitor.py": {"prefect"},
    "tasks/notify.py": {"prefect"},
    "tasks/venues": {"tasks.venues", "warehouse.schema", "numba", "msgspec"},
    "tasks/features": {"tasks.features", "warehouse.schema", "numba"},
    "tasks/features/fold.py": {"tasks.features", "warehouse.schema", "numba", "models.fits", "models.microprice"},
    "tasks/detectors": {"tasks.detectors", "tasks.features", "warehouse.schema", "numba"},
    "warehouse": {"warehouse", "duckdb", "pyarrow"},
    "warehouse/delta.py": {"warehouse", "pyarrow", "deltalake"},
    "warehouse/expectations.py": {"warehouse", "great_expectations", "duckdb"},
    "models": {"models", "warehouse.schema", "numba", "sklearn", "scipy"},
    "models/plots.py": {"models", "matplotlib"},
    "models/style.py": {"matplotlib"},
    "models/day.py": {"models", "warehouse.schema", "matplotlib"},
    "models/heatmap.py": {"models", "warehouse.schema", "matplotlib"},
    "models/booster.py": {"models", "lightgbm"},
    "models/garch.py": {"models", "arch"},
    "models/search.py": {"models", "optuna"},
    "models/registry.py": {"models", "mlflow"},
    "serving": {"serving", "flows", "tasks", "warehouse", "models", "simulator", "prefect"},
    "simulator": {"simulator", "tasks.venues", "websockets", "numba"},
    "serving/warm.py": {"tasks", "warehouse", "models", "simulator", "numba"},
    "cli": {"cli", "serving", "flows", "tasks", "warehouse", "models", "simulator", "prefect", "typer"},
}
FENCED = {name.split(".")[0] for names in MAY_IMPORT.values() for name in names} | {"ccxt", "redis", "fastapi"}
TOPS = ("cli", "flows", "tasks", "warehouse", "models", "serving", "simulator")
FILES = [path for top in TOPS for path in sorted((ROOT / top).rglob("*.py"))]


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide the arrow"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _strays(place, names):
    rule = max((key for key in MAY_IMPORT if place == key or place.startswith(key + "/")), key=len)
    return [
        name
        for name in names
        if name.split(".")[0] in FENCED and not any(name == ok or name.startswith(ok + ".") for ok in MAY_IMPORT[rule])
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_file_imports_only_what_its_place_allows(path):
    place = path.relative_to(ROOT).as_posix()
    assert not _strays(place, list(_imported(path))), f"{place} imports what its place forbids"


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("tasks/label.py", "tasks.train.train"),
        ("models/labels.py", "warehouse.lake.Lake"),
        ("tasks/venues/binance.py", "prefect.task"),
        ("warehouse/read.py", "tasks.features.catalogue"),
        ("tasks/score.py", "websockets"),
    ],
)
def test_table_forbids_what_it_should(place, name):
    assert _strays(place, [name])
