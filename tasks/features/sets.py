"""All feature sets under version control, and the table whose columns they are."""

from tasks.features.bar_catalogue import BARS_41
from tasks.features.catalogue import SETS
from tasks.features.cross_catalogue import CROSS_VENUE_10, CROSS_VENUE_15

# Name -> table, columns.  Those of `features` can be trained on by name.
FEATURE_SETS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: ("features", names) for name, names in SETS.items()},
    "bars_41": ("bars", BARS_41),
    "cross_venue_15": ("consolidated", CROSS_VENUE_15),
    "cross_venue_10": ("consolidated", CROSS_VENUE_10),
}
