import json

import pyarrow as pa

from serving.answers import as_json
from warehouse.lake import Lake

QUERY = """
SELECT 1.25::DECIMAL(10, 4) AS exact, 0.1234567890123456789::DECIMAL(38, 19) AS longer, sum(9223372036854775807) AS huge,
       INTERVAL '1 month 2 days 3 seconds' AS span, {'a': [1, NULL], 'b': 'x'} AS nested, MAP {'k': 1.5} AS map,
       'NaN'::DOUBLE AS nan, '-inf'::FLOAT AS infinite, [1.0, 'inf'::DOUBLE] AS list, NULL AS nothing, true AS yes,
       TIMESTAMP_NS '2026-01-31 06:00:00.123456789' AS at, TIMESTAMPTZ '2026-01-31 06:00:00+00' AS at_zone, DATE '2026-01-31' AS day,
       'ab'::BLOB AS raw, 1767225600000000001 AS ns, 1 AS twice, 2 AS twice
"""


def test_every_type_of_an_answer_becomes_json_that_any_reader_takes(tmp_path):
    answer = Lake(tmp_path).sql(QUERY)
    text = as_json(answer.column_names, [column.to_pylist() for column in answer.columns])

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(text, parse_constant=refuse) == [
        {
            "exact": 1.25, "longer": "0.1234567890123456789", "huge": 9223372036854775807,
            "span": {"months": 1, "days": 2, "nanoseconds": 3_000_000_000}, "nested": {"a": [1, None], "b": "x"}, "map": [["k", 1.5]],
            "nan": None, "infinite": None, "list": [1.0, None], "nothing": None, "yes": True,
            "at": "2026-01-31T06:00:00.123456789", "at_zone": "2026-01-31T06:00:00+00:00", "day": "2026-01-31",
            "raw": "6162", "ns": 1767225600000000001, "twice": 1, "twice_1": 2,
        }
    ]  # fmt: skip


def test_no_rows_are_an_empty_array():
    assert as_json(["n"], [pa.array([], pa.int64()).to_pylist()]) == "[]"
    assert as_json([], []) == "[]"
