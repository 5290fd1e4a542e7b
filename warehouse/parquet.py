"""How a Parquet file of the lake is written: columns, encodings, durability.

Integers are delta-packed (stamps and counters shrink to a byte or two), the rest is
dictionary-encoded (books are mostly unchanged decimals), all under zstd-3.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.delta import STATISTICS, DataFile
from warehouse.errors import writing
from warehouse.layout import Layout
from warehouse.wal import sync_folder

ROW_GROUP = 61_440


def write(
    layout: Layout, table: str, stream: tuple[str, str], day: str, name: str, schema: pa.Schema, tables: Iterable[pa.Table]
) -> DataFile:
    """Write one file of a partition and return it; it is durable under its name, and in no log yet.

    `tables` come in order of `seq` and are re-cut into full row groups.
    """
    venue, symbol = stream
    relative = f"{layout.partition(venue, symbol, day)}/{name}"
    target = layout.table(table) / relative
    temporary = layout.temporary()
    bounds: dict[str, tuple[int, int]] = {}
    rows = 0
    with writing(target):
        try:
            with open(temporary, "wb") as file:
                with _writer(file, schema) as writer:
                    for group in _cut(tables, schema):
                        rows += group.num_rows
                        _widen(bounds, group)
                        writer.write_table(group, row_group_size=ROW_GROUP)
                file.flush()
                os.fsync(file.fileno())
            _make_folders(target.parent)
            os.replace(temporary, target)
            sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
    return DataFile(relative, target.stat().st_size, rows, venue, symbol, day, bounds)


def _writer(file, schema: pa.Schema) -> pq.ParquetWriter:  # type: ignore[no-untyped-def]
    integers = [field.name for field in schema if pa.types.is_integer(field.type)]
    return pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=[field.name for field in schema if field.name not in integers],
        column_encoding=dict.fromkeys(integers, "DELTA_BINARY_PACKED"),
        write_page_index=False,
    )


def _cut(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterable[pa.Table]:
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table if table.schema.equals(schema) else table.select(schema.names).cast(schema))
        count += table.num_rows
        while count >= ROW_GROUP:
            whole = pa.concat_tables(held)
            yield whole.slice(0, ROW_GROUP)
            held = [whole.slice(ROW_GROUP)]
            count -= ROW_GROUP
    if count:
        yield pa.concat_tables(held)


def _widen(bounds: dict[str, tuple[int, int]], group: pa.Table) -> None:
    for name in STATISTICS:
        if name in group.column_names:
            values = group[name].to_numpy()
            low, high = int(np.min(values)), int(np.max(values))
            before = bounds.get(name, (low, high))
            bounds[name] = (min(low, before[0]), max(high, before[1]))


def _make_folders(folder: Path) -> None:
    made = []
    while not folder.is_dir():
        made.append(folder)
        folder = folder.parent
    for path in reversed(made):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)
