"""Hold recorded rows against what their tables promise."""

from prefect import task

from warehouse.errors import InvalidRowsError
from warehouse.expectations import check
from warehouse.lake import Lake


def validate(lake: Lake, venue: str, symbol: str, day: str, docs: bool = False) -> dict[str, int]:
    """Return the rows of each table of one stream and day that were looked at and found good.

    Raises
    ------
    InvalidRowsError
        If rows break a rule, with the number of rows by rule.
    """
    findings = check(lake, venue, symbol, day, docs)
    if findings.violations:
        raise InvalidRowsError(venue, symbol, day, findings.violations)
    return findings.rows


validate_partition = task(validate, name="validate", task_run_name="validate {venue} {symbol} {day}")
