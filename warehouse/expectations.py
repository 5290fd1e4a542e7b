"""What must be true of recorded rows, checked stream by stream and day by day.

DuckDB counts the rows that break a rule, in one pass a table; Great Expectations judges the
counts, a suite a table, and if asked writes its Data Docs.  It takes seconds to import, so
only the functions that need it do.
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np

from warehouse.lake import Lake
from warehouse.rules import DERIVED, RULES, Rule
from warehouse.schema import TABLES

Partition = tuple[str, str, str]  # venue, symbol, day
CONTIGUOUS = {"seq_missing": "seq has no hole", "seq_doubled": "no seq comes twice"}
_JOINED_NS = 1_000_000_000  # broken bounds so close to each other are one stretch


class Stretch(NamedTuple):
    """Rows of one table beyond a bound: the time from the row before the first of them to the last, both included."""

    table: str
    rule: str
    start_ns: int
    end_ns: int
    rows: int


@dataclass(frozen=True)
class Findings:
    """What was found of one stream and day.

    Attributes
    ----------
    rows : dict
        Table to rows that were looked at.
    violations : dict
        `table.rule` to rows that break it, of the rules without which nothing of the day can be trusted.
    beyond : dict
        The same of bounds that were exceeded.
    stretches : tuple of Stretch
        Where they were exceeded.
    docs : Path or None
        The entry page of the Data Docs, if they were asked for.
    """

    rows: dict[str, int]
    violations: dict[str, int]
    beyond: dict[str, int]
    stretches: tuple[Stretch, ...] = ()
    docs: Path | None = None


def count(connection: duckdb.DuckDBPyConnection, table: str, venue: str, symbol: str, day: str) -> dict[str, int]:
    """Return the rows of one partition and, rule by rule, how many of them break it.

    `seq_missing` and `seq_doubled` are counted over the partition's range of `seq` in the whole
    stream, for around midnight the rows of two days interleave.
    """
    stream = {"venue": venue, "symbol": symbol}
    connection.execute(_marked(table), {**stream, "day": day})
    sums = "".join(f"count_if({rule}), " for rule in RULES[table])
    n, low, high, *broken = connection.execute(f"SELECT count(*), min(seq), max(seq), {sums} FROM marked").fetchone() or ()
    found = {"n": n, **dict(zip(RULES[table], broken, strict=True)), **dict.fromkeys(CONTIGUOUS, 0)}
    if n:
        query = (
            f"SELECT count(*), count(DISTINCT seq) FROM {table} WHERE venue = $venue AND symbol = $symbol AND seq BETWEEN $low AND $high"
        )
        held, distinct = connection.execute(query, {**stream, "low": low, "high": high}).fetchone() or ()
        found |= {"seq_missing": 0 if TABLES[table].has_holes else high - low + 1 - distinct, "seq_doubled": held - distinct}
    return {name: int(value or 0) for name, value in found.items()}


def _marked(table: str) -> str:
    """Return the statement that makes `marked`: a row a row of the partition, a truth a rule.

    Rules over one row are decided first, so that only what the others need goes through the
    sort.  `era` changes wherever the stream was doubtful in between.
    """
    rules = RULES[table].values()
    over_time = [rule for rule in rules if rule.over_time]
    words = set(re.findall(r"\w+", " ".join(rule.breaks for rule in over_time)))
    made = DERIVED.get(table, {})
    names = [name for name in TABLES[table].names if name in words and name != "seq"]
    before = sorted(word.removeprefix("prev_") for word in words if word.startswith("prev_"))
    once = "".join(f", ({rule.breaks}) AS {rule.name}" for rule in rules if not rule.over_time)
    kept = list(dict.fromkeys([*names, *(["exchange_ns"] if "exchange_ns" in TABLES[table].names else ["receive_ns"])]))
    picked = f"""
        SELECT seq, {", ".join(kept)}{"".join(f", {expression} AS {name}" for name, expression in made.items())}{once}
        FROM {table} WHERE venue = $venue AND symbol = $symbol AND day = $day"""
    if "era" in words:
        changes = "SELECT event_seq AS era FROM coverage_changes WHERE venue = $venue AND symbol = $symbol"
        picked = f"SELECT p.*, coalesce(c.era, -1) AS era FROM ({picked}) AS p ASOF LEFT JOIN ({changes}) AS c ON p.event_seq >= c.era"
    lags = "".join(f", lag({name}) OVER (ORDER BY seq) AS prev_{name}" for name in before)
    decided = "".join(f", coalesce(({rule.breaks}), false) AS {rule.name}" for rule in over_time)
    return f"CREATE OR REPLACE TEMP TABLE marked AS SELECT *{decided} FROM (SELECT *{lags} FROM ({picked}))"


def stretches(connection: duckdb.DuckDBPyConnection, table: str, rules: Sequence[Rule]) -> list[Stretch]:
    """Return where bounds were exceeded, from the partition that `count` looked at last; close ones are joined."""
    out = []
    for rule in rules:
        start = "coalesce(prev_exchange_ns, exchange_ns)" if rule.over_time else "exchange_ns"
        query = f"SELECT least({start}, exchange_ns) AS s, greatest({start}, exchange_ns) AS e FROM marked WHERE {rule.name} ORDER BY s"
        found = connection.execute(query).fetchnumpy()
        starts, ends = found["s"], np.maximum.accumulate(found["e"]) if len(found["e"]) else found["e"]
        cuts = np.flatnonzero(starts[1:] > ends[:-1] + _JOINED_NS) + 1
        for first, last in zip([0, *cuts], [*cuts, len(starts)], strict=True):
            if last > first:
                out.append(Stretch(table, rule.name, int(starts[first]), int(ends[last - 1]), int(last - first)))
    return out


def check(lake: Lake, venue: str, symbol: str, day: str, docs: bool = False) -> Findings:
    """Judge all tables of one stream and day, the unsealed rows included.

    Parameters
    ----------
    docs : bool
        Also write Data Docs under the lake's `docs` folder.
    """
    return check_all(lake, [(venue, symbol, day)], docs)[0]


def check_all(
    lake: Lake, partitions: Sequence[Partition], docs: bool = False, progress: Callable[[int], None] = lambda _: None
) -> list[Findings]:
    """Judge several partitions, with one set of Data Docs over all of them; `progress` is told each."""
    judge = Judge(lake.root / "docs" if docs else None)
    out = []
    for partition in partitions:
        with lake.connect(*partition[:2]) as connection:
            rows, judged, beyond, found = _look(connection, partition)
        failed = judge(partition, judged)
        bounds = {name: beyond[name] for name in failed if name in beyond}
        broken = {
            f"{table}.{rule}": n for (table, rule), n in judged.items() if f"{table}.{rule}" in failed and f"{table}.{rule}" not in beyond
        }
        out.append(Findings(rows, broken, bounds, tuple(found), judge.page))
        progress(1)
    judge.write()
    return out


def _look(
    connection: duckdb.DuckDBPyConnection, partition: Partition
) -> tuple[dict[str, int], dict[tuple[str, str], int], dict[str, int], list[Stretch]]:
    rows: dict[str, int] = {}
    judged: dict[tuple[str, str], int] = {}
    beyond: dict[str, int] = {}
    found: list[Stretch] = []
    for table, rules in RULES.items():
        counts = count(connection, table, *partition)
        rows[table] = counts.pop("n")
        if not rows[table]:
            continue
        judged |= {(table, rule): number for rule, number in counts.items()}
        beyond |= {f"{table}.{name}": counts[name] for name, rule in rules.items() if rule.is_bound}
        found += stretches(connection, table, [rule for name, rule in rules.items() if rule.is_bound and counts[name]])
    return rows, judged, beyond, found


class Judge:
    """Great Expectations, fed with counts: a suite a table, an expectation a rule, a validation a partition."""

    def __init__(self, docs: Path | None = None) -> None:
        os.environ.setdefault("TQDM_DISABLE", "1")
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        import great_expectations

        self._gx: Any = great_expectations  # its own annotations hide what it exports
        for name in ("great_expectations", "great_expectations.data_context.types.base"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._context = self._gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = {"globally": False}
        self._batch = (
            self._context.data_sources.add_pandas("lake").add_dataframe_asset("counts").add_batch_definition_whole_dataframe("whole")
        )
        self._checkpoints: dict[str, Any] = {}
        self.page = docs / "index.html" if docs is not None else None
        if docs is not None:
            site = {
                "class_name": "SiteBuilder",
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs)},
            }
            self._context.add_data_docs_site("lake", site)

    def __call__(self, partition: Partition, judged: dict[tuple[str, str], int]) -> list[str]:
        """Return the rules that are found broken, as `table.rule`; an error inside Great Expectations is an error here."""
        import pandas as pd

        failed = []
        for table in dict.fromkeys(table for table, _ in judged):
            record = {rule: number for (of, rule), number in judged.items() if of == table}
            frame = pd.DataFrame([dict(zip(("venue", "symbol", "day"), partition, strict=True)) | record])
            outcome = self._checkpoint(table).run(
                batch_parameters={"dataframe": frame}, run_id=self._gx.RunIdentifier(run_name=" ".join(partition))
            )
            for result in next(iter(outcome.run_results.values())).results:
                if result.exception_info and result.exception_info.get("raised_exception"):
                    raise RuntimeError(f"Great Expectations could not judge {result.expectation_config.kwargs}: {result.exception_info}")
                if not result.success:
                    failed.append(f"{table}.{result.expectation_config.kwargs['column']}")
        return failed

    def write(self) -> None:
        """Write the Data Docs of everything judged, if they were asked for."""
        if self.page is not None:
            for before in ("validations", "expectations"):  # a page a look would fill the disk in the end
                shutil.rmtree(self.page.parent / before, ignore_errors=True)
            self._context.build_data_docs(site_names=["lake"])

    def _checkpoint(self, table: str) -> Any:
        if table not in self._checkpoints:
            suite = self._context.suites.add(self._gx.ExpectationSuite(table, notes=TABLES[table].meaning))
            meanings = {name: rule.meaning for name, rule in RULES[table].items()} | CONTIGUOUS
            for rule, meaning in meanings.items():
                suite.add_expectation(
                    self._gx.expectations.ExpectColumnMaxToBeBetween(column=rule, min_value=0, max_value=0, notes=meaning)
                )
            definition = self._context.validation_definitions.add(self._gx.ValidationDefinition(name=table, data=self._batch, suite=suite))
            self._checkpoints[table] = self._context.checkpoints.add(self._gx.Checkpoint(name=table, validation_definitions=[definition]))
        return self._checkpoints[table]
