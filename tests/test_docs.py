"""The pages hold what the code holds: names, tables, settings, commands, SQL, Python, links."""

import importlib.util
import re
import shlex

import numpy as np
import pytest
import typer
import yaml

from cli import app
from flows.settings import HOME, Settings
from simulator import frames
from tasks.features.catalogue import NAMES
from tasks.featurize import featurize
from tasks.label import label
from tasks.venues.binance import Binance
from tasks.venues.events import BOOK, CHANGE, TRADE
from warehouse.lake import Lake
from warehouse.schema import TABLES, row_dtype

STREAM = ("binance_usdm", "BTC-USDT-PERP")
PAGES = sorted([HOME / "README.md", HOME / "CHANGELOG.md", *(HOME / "docs").rglob("*.md")])
COMMANDS = typer.main.get_command(app).commands
READ = {page: page.read_text(encoding="utf-8") for page in PAGES}


def _name(page):
    return page.relative_to(HOME).as_posix()


def _text(name):
    return READ[HOME / name]


def _fenced(kind):
    """Return the blocks of one language: (page, number, text)."""
    pattern = re.compile(rf"^```{kind}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [
        pytest.param(page, found, id=f"{_name(page)}-{number}")
        for page, text in READ.items()
        for number, found in enumerate(pattern.findall(text))
    ]


def _generator():
    spec = importlib.util.spec_from_file_location("generate", HOME / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder whose `data` is a lake of two minutes: books, trades, a gap, features, labels, and predictions that are not sealed yet."""
    folder = tmp_path_factory.mktemp("docs")
    lake, adapter = Lake(folder / "data"), Binance("binance_usdm", "BTCUSDT")
    writer = lake.writer()
    writer.session(*STREAM, "docs")
    rows = {BOOK: ("l2_snapshots", adapter.row), TRADE: ("trades", adapter.trade), CHANGE: ("coverage_changes", adapter.change)}
    market = list(frames("binance_usdm", "BTCUSDT", 120.0, 3))
    for n, (receive_ns, frame) in enumerate(market):
        for event in adapter.receive(b"" if n == len(market) - 300 else frame, receive_ns):
            if event in rows:
                table, row = rows[event]
                writer.append(table, *STREAM, row)
    writer.close()
    (day,) = (day for _, _, day in lake.partitions("l2_snapshots"))
    featurize(lake, *STREAM, day)
    label(lake, *STREAM, day)
    books = lake.rows("l2_snapshots", *STREAM)
    told = np.zeros(len(books), row_dtype("predictions"))
    told["seq"], told["event_seq"], told["book_seq"] = np.arange(len(books)), books["event_seq"], books["seq"]
    told["exchange_ns"], told["receive_ns"] = books["exchange_ns"], books["receive_ns"]
    told["probability"], told["model_version"], told["latency_ns"] = 0.5, 1, 9_000
    writer = lake.writer()
    writer.session(*STREAM, "scores", ("predictions",))
    writer.append("predictions", *STREAM, told)
    writer.commit()
    return folder


@pytest.fixture
def lake(folder):
    return Lake(folder / "data")


def test_generated_parts_are_what_the_code_declares():
    generate = _generator()
    used = set()
    for page in sorted((HOME / "docs").glob("*.md")):
        assert generate.generated(READ[page]) == READ[page], f"{page.name} is out of date: run python docs/generate.py"
        used |= set(re.findall(r"<!-- begin (\S+) -->", READ[page]))
    assert used == set(generate.BLOCKS)


def test_every_feature_is_in_the_glossary():
    assert [name for name in NAMES if f"| `{name}` |" not in _text("docs/glossary.md")] == []


def test_every_table_and_column_is_in_querying():
    text = _text("docs/querying.md")
    for table in TABLES.values():
        section = text.partition(f"### {table.name}\n")[2].partition("\n### ")[0]
        columns = {re.sub(r"_(\d\d)$", "_00", column.name) for column in table.columns}
        assert [name for name in columns if f"`{name}`" not in section] == [], table.name


def test_every_view_and_its_columns_are_in_querying(lake):
    text = _text("docs/querying.md")
    with lake.connect() as connection:
        views = {name for (name,) in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()}
        for view in views - set(TABLES):
            columns = [f"`{name}`" for name, *_ in connection.execute(f"DESCRIBE {view}").fetchall()]
            assert f"| `{view}` | {', '.join(columns)} |" in text


def test_every_setting_is_in_running():
    missing = [name for name in Settings.model_fields if f"`TIDEBOOK_{name.upper()}`" not in _text("docs/running.md")]
    assert missing == []


def test_every_setting_that_the_pages_name_exists():
    known = {f"TIDEBOOK_{name.upper()}" for name in Settings.model_fields} | {"TIDEBOOK_HOME", "TIDEBOOK_CAPTURE", "TIDEBOOK_SHARED"}
    for page, text in READ.items():
        assert set(re.findall(r"TIDEBOOK_[A-Z_]*[A-Z]", text)) <= known, _name(page)


def test_every_command_is_in_the_readme():
    assert [name for name in COMMANDS if f"| `tidebook {name}" not in _text("README.md")] == []


def _calls():
    """Return what the pages tell people to type: whole lines, and code within sentences."""
    for page, text in READ.items():
        blocks = "\n".join(
            [*re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE), *re.findall(r"^ {4}(.*)$", text, re.MULTILINE)]
        )
        for line in re.findall(r"^(?:TIDEBOOK_\w+=\S+ )*(tidebook .*)$", blocks, re.MULTILINE):
            yield pytest.param(line, id=f"{_name(page)}: {line}")
        for line in re.findall(r"`(?:TIDEBOOK_\w+=\S+ )*(tidebook [^`]+)`", text):
            yield pytest.param(line, id=f"{_name(page)}: `{line}`")


@pytest.mark.parametrize("call", _calls())
def test_command_in_the_pages_can_be_typed(call):
    _, name, *arguments = shlex.split(call, comments=True)
    assert name in COMMANDS
    if arguments:
        given = [argument for argument in arguments if argument != "..."]
        wanting = name in ("replay", "verify") and "--venue" not in given
        COMMANDS[name].make_context(name, given, resilient_parsing=wanting)


def test_every_make_target_in_the_pages_exists():
    targets = set(re.findall(r"^([a-z]+):", (HOME / "Makefile").read_text(), re.MULTILINE))
    for page, text in READ.items():
        assert set(re.findall(r"(?:`|^ {4})make ([a-z]+)", text, re.MULTILINE)) <= targets, _name(page)


@pytest.mark.parametrize(("page", "query"), _fenced("sql"))
def test_sql_runs_and_finds_something(lake, page, query):
    found = lake.sql(query)
    wants_none = "step <> 1" in query  # rows only where something is lost
    assert (found.num_rows == 0) == wants_none


@pytest.mark.parametrize(
    "query", [pytest.param(found, id=found[:60]) for text in READ.values() for found in re.findall(r'tidebook sql "([^"]+)"', text)]
)
def test_sql_on_the_command_line_runs(lake, query):
    assert lake.sql(query).num_rows > 0


@pytest.mark.parametrize("name", sorted(_name(page) for page in PAGES if "```python" in READ[page]))
def test_python_runs(folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    namespace = {}
    for block in re.findall(r"^```python\n(.*?)^```", _text(name), re.DOTALL | re.MULTILINE):
        exec(compile(block, name, "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page):
    for address in re.findall(r"\]\(([^)\s]+)\)", READ[page]):
        path, _, anchor = address.partition("#")
        assert "://" not in address, f"{address}: pages stand by themselves"
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), address
        if anchor:
            found = re.findall(r"^#+ (.*)$", READ[there], re.MULTILINE)
            heads = {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in found}
            assert anchor in heads, address


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_pages_name_no_machine_and_are_no_status(page):
    assert not re.search(r"(?<![\w.~%/])/(?:home|work|tmp|root|Users|usr)/", READ[page])
    assert not re.search(r"\b(?:TODO|FIXME|TBD)\b|@@", READ[page])


def test_every_deployment_and_trigger_is_in_deploying():
    text = _text("docs/deploying.md")
    for plan in yaml.safe_load((HOME / "prefect.yaml").read_text())["deployments"]:
        assert f"`{plan['entrypoint']}`" in text
        events = [event for trigger in plan.get("triggers", []) for event in trigger["expect"]]
        assert all(f"`{event}`" in text for event in events)


def test_every_direct_dependency_was_decided_upon():
    project = (HOME / "pyproject.toml").read_text()
    listed = {name.lower() for name in re.findall(r'^    "([A-Za-z0-9-]+)[><=]', project, re.MULTILINE)}
    text = " ".join(page.read_text() for page in (HOME / "docs" / "decisions").glob("*dependencies*.md")).lower()
    assert [name for name in sorted(listed) if name.replace("-", " ") not in text.replace("-", " ")] == []


def test_decisions_are_numbered_without_a_hole():
    decisions = sorted((HOME / "docs" / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in decisions] == list(range(1, len(decisions) + 1))
    for number, page in enumerate(decisions, 1):
        assert READ[page].startswith(f"# {number}. ")


def test_pictures_are_small():
    for picture in (HOME / "docs" / "images").iterdir():
        assert picture.stat().st_size < 300_000
