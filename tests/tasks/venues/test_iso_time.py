"""Times in text become exact nanoseconds, and what is no time is refused."""

import random
from datetime import UTC, datetime

import pytest

from tasks.venues.iso_time import iso_ns


def test_random_times_equal_those_of_the_standard_library():
    rng = random.Random(3)
    for _ in range(500):
        seconds, micros = rng.randrange(0, 7_000_000_000), rng.randrange(1_000_000)
        told = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros:06d}Z"
        assert iso_ns(told) == seconds * 1_000_000_000 + micros * 1000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("0001-01-01T00:00:00.000000Z", 0),
    ],
)
def test_fractions_of_any_length_count(text, ns):
    assert iso_ns(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "", "Z", "2021-04-17", "2021-04-17T16:43:37", "2021-04-17T16:43:37.Z", "2021-04-17T16:43:37.0756870001Z",
        "2021-04-17T16:43:37.07568+00:00", "2021-13-17T16:43:37Z", "2021-04-17T24:43:37Z", "2021-04-17T16:43:7Z",
        "2021-04-17T16:43:37,075687Z", "2021-04-17T16:43:61Z", "9999-04-17T16:43:37Z", "٢٠٢١-04-17T16:43:37Z", "2021-04-17T16:43:3²Z",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="time"):
        iso_ns(text)
