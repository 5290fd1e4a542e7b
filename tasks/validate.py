"""Hold recorded rows against what their tables promise; what does not keep it is left out of training."""

from collections.abc import Callable, Sequence

from prefect import task

from warehouse.errors import InvalidRowsError
from warehouse.expectations import Findings, Partition, check, check_all
from warehouse.lake import Lake
from warehouse.quarantine import mark


def validate(lake: Lake, venue: str, symbol: str, day: str, docs: bool = False) -> dict[str, int]:
    """Return the rows of each table of one stream and day that were looked at and found good.

    What was found stands in the table `quarantine` afterwards: nothing, the stretches in which a
    number was beyond its bound, or the whole day.

    Parameters
    ----------
    docs : bool
        Also write the Data Docs of this partition.

    Raises
    ------
    InvalidRowsError
        If rows break a rule, with the number of rows by rule.
    """
    found = check(lake, venue, symbol, day, docs)
    mark(lake, venue, symbol, day, found)
    if found.violations:
        raise InvalidRowsError(venue, symbol, day, found.violations)
    return found.rows


def look(
    lake: Lake, partitions: Sequence[Partition], docs: bool = True, progress: Callable[[int], None] = lambda _: None
) -> list[Findings]:
    """Hold several partitions against their rules, mark what is found, write one set of Data Docs over all; return what was found."""
    found = check_all(lake, partitions, docs, progress)
    for partition, one in zip(partitions, found, strict=True):
        mark(lake, *partition, one)
    return found


validate_partition = task(validate, name="validate", task_run_name="validate {venue} {symbol} {day}")
look_at_partitions = task(look, name="look at partitions")
