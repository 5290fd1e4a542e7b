"""What must be true of recorded rows, checked stream by stream and day by day.

DuckDB counts the rows that break a rule, in one pass a table; Great Expectations judges the
counts and, if asked, writes its Data Docs.  It takes seconds to import, so only the
functions that need it do.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from warehouse.lake import Lake
from warehouse.schema import LEVELS, STATES, TABLES


def _unsorted(side: str, worse: str) -> str:
    pairs = ((f"{side}_px_{i:02d}", f"{side}_px_{i + 1:02d}") for i in range(LEVELS - 1))
    # DuckDB takes NaN for the greatest number; a missing level breaks no order.
    return " OR ".join(f"({deeper} {worse} {level} AND NOT isnan({deeper}) AND NOT isnan({level}))" for level, deeper in pairs)


def _unsized(side: str) -> str:
    levels = ((f"{side}_px_{i:02d}", f"{side}_sz_{i:02d}") for i in range(LEVELS))
    return " OR ".join(f"(NOT isnan({price}) AND (isnan({size}) OR {size} <= 0))" for price, size in levels)


# Rule -> what a row looks like that breaks it.  Doubtful rows promise nothing but their place.
_ORDER = {"event_seq_runs_back": "event_seq <= lag(event_seq) OVER (ORDER BY seq)"}
RULES: Mapping[str, Mapping[str, str]] = {
    "l2_snapshots": {
        **_ORDER,
        "touch_missing": "doubt = 0 AND (isnan(bid_px_00) OR isnan(ask_px_00))",
        "touch_crossed": "doubt = 0 AND NOT isnan(bid_px_00) AND NOT isnan(ask_px_00) AND bid_px_00 >= ask_px_00",
        "bids_unsorted": f"doubt = 0 AND ({_unsorted('bid', '>=')})",
        "asks_unsorted": f"doubt = 0 AND ({_unsorted('ask', '<=')})",
        "size_not_positive": f"doubt = 0 AND ({_unsized('bid')} OR {_unsized('ask')})",
        "doubt_unknown": f"doubt NOT BETWEEN 0 AND {len(STATES) - 1}",
    },
    "trades": {
        **_ORDER,
        "price_not_positive": "isnan(price) OR price <= 0",
        "size_not_positive": "isnan(size) OR size <= 0",
        "aggressor_unknown": "aggressor NOT BETWEEN -1 AND 1",
    },
    "coverage_changes": {**_ORDER, "state_unknown": f"state NOT BETWEEN 0 AND {len(STATES) - 1}"},
    "features": {**_ORDER, "clean_ns_negative": "clean_ns < 0"},
    "labels": {**_ORDER, "label_ends_before_it_starts": "label_end_ns < label_start_ns"},
    "predictions": {**_ORDER, "probability_outside": "doubt = 0 AND NOT (probability BETWEEN 0 AND 1)"},
}


@dataclass(frozen=True)
class Findings:
    """What was found of one stream and day.

    Attributes
    ----------
    rows : dict
        Table to rows that were looked at.
    violations : dict
        `table.rule` to rows that break it, of those that any row breaks.
    docs : Path or None
        The entry page of the Data Docs, if they were asked for.
    """

    rows: dict[str, int]
    violations: dict[str, int]
    docs: Path | None = None


def count(connection: duckdb.DuckDBPyConnection, table: str, venue: str, symbol: str, day: str) -> dict[str, int]:
    """Return the rows of one partition and, rule by rule, how many of them break it.

    `seq_missing` and `seq_doubled` are counted over the partition's range of `seq` in the whole
    stream, for around midnight the rows of two days interleave.
    """
    stream = "venue = $venue AND symbol = $symbol"
    rules = RULES[table]
    broken = ", ".join(f"({expression}) AS {rule}" for rule, expression in rules.items())
    sums = ", ".join(f"coalesce(count_if({rule}), 0) AS {rule}" for rule in rules)
    query = f"""
        WITH partition AS (SELECT *, {broken} FROM {table} WHERE {stream} AND day = $day),
             span AS (SELECT min(seq) AS low, max(seq) AS high FROM partition),
             around AS (SELECT seq FROM {table}, span WHERE {stream} AND seq BETWEEN low AND high)
        SELECT count(*) AS n, {sums},
               coalesce((SELECT max(high - low + 1) FROM span) - (SELECT count(DISTINCT seq) FROM around), 0) AS seq_missing,
               (SELECT count(*) - count(DISTINCT seq) FROM around) AS seq_doubled
        FROM partition"""
    result = connection.execute(query, {"venue": venue, "symbol": symbol, "day": day})
    names = [column[0] for column in result.description or ()]
    values = result.fetchone() or ()
    return {name: int(value) for name, value in zip(names, values, strict=True)}


def check(lake: Lake, venue: str, symbol: str, day: str, docs: bool = False) -> Findings:
    """Judge all tables of one stream and day, the unsealed rows included.

    Parameters
    ----------
    docs : bool
        Also write Data Docs under the lake's `docs` folder.
    """
    with lake.connect() as connection:
        counts = {table: count(connection, table, venue, symbol, day) for table in TABLES if table in RULES}
    rows = {table: found.pop("n") for table, found in counts.items()}
    judged = {f"{table}.{rule}": number for table, found in counts.items() for rule, number in found.items()}
    failed, page = _judge({"venue": venue, "symbol": symbol, "day": day, **judged}, list(judged), lake.root / "docs" if docs else None)
    return Findings(rows, {rule: judged[rule] for rule in failed}, page)


def _judge(record: dict[str, Any], rules: list[str], docs: Path | None) -> tuple[list[str], Path | None]:
    """Return the rules that Great Expectations finds broken; an error inside it is an error here."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations
    import pandas as pd

    gx: Any = great_expectations  # its own annotations hide what it exports
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    suite = context.suites.add(gx.ExpectationSuite("rows"))
    for rule in rules:
        suite.add_expectation(gx.expectations.ExpectColumnMaxToBeBetween(column=rule, min_value=0, max_value=0))
    batch = context.data_sources.add_pandas("lake").add_dataframe_asset("counts").add_batch_definition_whole_dataframe("whole")
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="rows", data=batch, suite=suite))
    actions = []
    if docs is not None:
        site = {
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs)},
        }
        context.add_data_docs_site("lake", site)
        actions = [gx.checkpoint.UpdateDataDocsAction(name="docs", site_names=["lake"])]
    checkpoint = context.checkpoints.add(gx.Checkpoint(name="rows", validation_definitions=[definition], actions=actions))
    outcome = checkpoint.run(batch_parameters={"dataframe": pd.DataFrame([record])})
    failed = []
    for result in next(iter(outcome.run_results.values())).results:
        if result.exception_info and result.exception_info.get("raised_exception"):
            raise RuntimeError(f"Great Expectations could not judge {result.expectation_config.kwargs}: {result.exception_info}")
        if not result.success:
            failed.append(result.expectation_config.kwargs["column"])
    return failed, docs / "index.html" if docs is not None else None
