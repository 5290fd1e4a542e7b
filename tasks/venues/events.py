"""What an adapter says of a frame, and the record of a coverage change."""

from warehouse.schema import row_dtype

# Events, in the order of a frame.  The adapter's views hold the values until the next event.
NOTHING, BOOK, TRADE, QUOTE, CHANGE, UNREADABLE = range(6)

CHANGE_ROW = row_dtype("coverage_changes")
