"""The command line on bad input: one clear line, the right exit code, and what was acknowledged still there."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from simulator import frames
from warehouse.lake import Lake
from warehouse.raw import RawWriter, hours

ROOT = Path(__file__).resolve().parents[1]
VENUE, SYMBOL = "binance_usdm", "BTC-USDT-PERP"
KEYS = {
    "messages", "book_updates", "gaps", "crossed", "quote_checks", "quote_matches", "trades", "trade_id_gaps", "rows",
    "parity_rows", "parity_mismatches", "unreadable",
}  # fmt: skip


@pytest.fixture(scope="module")
def lines():
    return [b"%d %s" % event for event in frames(VENUE, "BTCUSDT", 20.0, seed=4)]


@pytest.fixture
def capture(tmp_path, lines):
    path = tmp_path / "capture.txt"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def run(*words, **kwargs):
    result = CliRunner(**kwargs).invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def books(lake):
    return Lake(lake).rows("l2_snapshots", VENUE, SYMBOL)


def test_replay_twice_adds_nothing(capture, tmp_path):
    for _ in range(2):
        assert run("replay", capture, "--venue", VENUE, "--lake", tmp_path / "lake", "--quiet").exit_code == 0
    assert (books(tmp_path / "lake")["seq"] == range(books(tmp_path / "lake").size)).all()


def test_truncated_gzip_is_told_and_the_lines_before_are_kept(tmp_path, lines):
    path = tmp_path / "cut.gz"
    packed = gzip.compress(b"\n".join(lines) + b"\n")
    path.write_bytes(packed[: len(packed) * 3 // 4])
    result = run("replay", path, "--venue", VENUE, "--lake", tmp_path / "lake", "--quiet")
    assert result.exit_code == 3
    assert "CaptureTruncatedError" in result.output
    assert books(tmp_path / "lake").size > 50


def test_lines_that_are_no_json_are_kept_and_counted(tmp_path, lines):
    path = tmp_path / "bad.txt"
    path.write_bytes(b"\n".join([*lines[:900], b"1767225600000000000 {no json", b"no stamp at all", *lines[900:]]))
    assert run("replay", path, "--venue", VENUE, "--lake", tmp_path / "lake", "--quiet").exit_code == 0
    kept = Lake(tmp_path / "lake").sql("SELECT frame FROM unreadable ORDER BY seq").to_pydict()["frame"]
    assert kept == ["{no json", "no stamp at all"]
    told = run("verify", path, "--venue", VENUE, "--json", "--quiet")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["unreadable"] == 2


@pytest.mark.parametrize("venue", ["binance_spot", "binance_coinm", "kraken"])
def test_a_wrong_venue_is_named(capture, tmp_path, venue):
    result = run("replay", capture, "--venue", venue, "--lake", tmp_path / "lake", "--quiet")
    assert result.exit_code == 3
    assert "expected" in result.output


def test_a_capture_without_a_snapshot_says_what_is_missing(tmp_path, lines):
    path = tmp_path / "headless.txt"
    path.write_bytes(b"\n".join(line for line in lines if b"lastUpdateId" not in line))
    result = run("replay", path, "--venue", VENUE, "--lake", tmp_path / "lake", "--quiet")
    assert result.exit_code == 3
    assert "NoSnapshotError" in result.output
    assert books(tmp_path / "lake").size == 0


def test_a_gap_in_the_middle_is_a_gap_in_coverage(tmp_path, lines):
    path = tmp_path / "gap.txt"
    path.write_bytes(b"\n".join([*lines[:1500], *lines[1700:]]))
    run("replay", path, "--venue", VENUE, "--lake", tmp_path / "lake", "--quiet")
    states = Lake(tmp_path / "lake").sql("SELECT state_name FROM coverage ORDER BY start_ns, end_ns").to_pydict()["state_name"]
    assert "gap" in states
    assert books(tmp_path / "lake").size > 20
    told = run("verify", path, "--venue", VENUE, "--json", "--quiet")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["gaps"] == 1


def test_a_lake_that_cannot_be_written_is_named(capture, tmp_path):
    (tmp_path / "file").touch()
    result = run("replay", capture, "--venue", VENUE, "--lake", tmp_path / "file" / "lake", "--quiet")
    assert result.exit_code == 3
    assert "LakeNotWritableError" in result.output


def test_a_missing_capture_is_named(tmp_path):
    result = run("replay", tmp_path / "nothing.gz", "--venue", VENUE, "--lake", tmp_path / "lake")
    assert result.exit_code == 3
    assert "nothing.gz" in result.output


def test_a_full_disk_keeps_what_was_acknowledged(tmp_path):
    path = tmp_path / "long.txt"
    path.write_bytes(b"".join(b"%d %s\n" % event for event in frames(VENUE, "BTCUSDT", 200.0, seed=4)))
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000)); from cli import main; main()"
    words = ["replay", str(path), "--venue", VENUE, "--lake", str(tmp_path / "lake"), "--quiet", "--speed", "40"]
    full = subprocess.run(
        [sys.executable, "-c", "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); " + limited, *words],
        cwd=ROOT, capture_output=True, text=True, timeout=200, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert full.returncode == 3, full.stderr[-2000:]
    assert "LakeFullError" in full.stderr
    assert "Traceback" not in full.stderr
    kept = books(tmp_path / "lake").copy()
    assert (kept["seq"] == range(kept.size)).all()
    assert run("replay", path, "--venue", VENUE, "--lake", tmp_path / "lake", "--quiet").exit_code == 0
    assert books(tmp_path / "lake")[: kept.size].tobytes() == kept.tobytes()
    assert books(tmp_path / "lake").size > 3000


def test_verify_reports_its_keys(capture):
    told = run("verify", capture, "--venue", VENUE, "--json", "--quiet")
    assert told.exit_code == 0
    found = json.loads(told.stdout)
    assert found.keys() >= KEYS
    assert found["quote_checks"] == found["quote_matches"] > 100
    assert found["parity_rows"] == found["rows"] == found["book_updates"] > 100
    assert found["parity_mismatches"] == found["gaps"] == found["crossed"] == 0


def test_sql_speaks_table_json_and_csv(capture, tmp_path):
    lake = tmp_path / "lake"
    run("replay", capture, "--venue", VENUE, "--lake", lake, "--quiet")
    query = "SELECT count(*) AS n FROM trades"
    n = Lake(lake).sql(query).to_pydict()["n"][0]
    assert json.loads(run("sql", query, "--lake", lake, "--format", "json").stdout) == [{"n": n}]
    assert run("sql", query, "--lake", lake, "--format", "csv").stdout == f"n\n{n}\n"
    assert str(n) in run("sql", query, "--lake", lake).stdout
    wrong = run("sql", "SELECT nothing FROM nowhere", "--lake", lake)
    assert wrong.exit_code == 3
    assert "SqlError" in wrong.output
    assert run("sql", query, "--lake", lake, "--format", "xml").exit_code == 2


@pytest.mark.parametrize(
    "words",
    [("sql", "SELECT 1"), ("quality",), ("refresh",), ("train",), ("score",), ("report",), ("audit",)],
    ids=lambda words: words[0],
)
def test_a_mistyped_lake_is_told_and_not_made(tmp_path, words):
    Lake(tmp_path / "lake")
    result = run(*words, "--lake", tmp_path / "lkae")
    assert result.exit_code == 3
    said = result.output.replace("\n", "")
    assert all(part in said for part in ("NoLakeError", "lkae", "expected a folder with `tables`", f"lakes nearby: {tmp_path / 'lake'}"))
    assert not (tmp_path / "lkae").exists()


@pytest.mark.parametrize("speed", ["-3", "0", "nan", "inf", "fast"])
def test_a_speed_that_is_none_is_wrong_usage(capture, tmp_path, speed):
    result = run("replay", capture, "--venue", VENUE, "--lake", tmp_path / "lake", "--speed", speed)
    assert result.exit_code == 2
    assert "a number above 0" in result.output.replace("\n", " ")
    assert run("simulate", "--speed", "-3").exit_code == 2
    assert not (tmp_path / "lake").exists()


def test_models_that_cannot_be_written_are_named(tmp_path):
    lake = Lake(tmp_path / "lake")
    (lake.root / "models").touch()
    result = run("report", "--lake", lake.root)
    assert result.exit_code == 3
    assert "RegistryNotWritableError" in result.output
    assert str(lake.root / "models") in result.output.replace("\n", "")


@pytest.mark.parametrize("command", ["audit", "train"])
def test_a_stream_that_the_lake_does_not_have_is_named_with_those_it_has(tmp_path, command):
    Lake(tmp_path / "lake")
    result = run(command, "--symbol", "NOPE", "--lake", tmp_path / "lake", "--quiet")
    assert result.exit_code == 3
    said = " ".join(result.output.split())
    assert all(part in said for part in ("UnknownStreamError", "'NOPE'", "streams that have", "tidebook refresh"))


def test_a_second_model_needs_a_version_to_be_kept_with(tmp_path):
    result = run("train", "--shuffled", "--meta", "--lake", tmp_path)
    assert result.exit_code == 2
    assert "registers none" in " ".join(result.output.split())


def test_an_older_capture_behind_a_newer_one_is_refused_and_changes_nothing(tmp_path, lines):
    older, newer = tmp_path / "older.txt", tmp_path / "newer.txt"
    older.write_bytes(b"\n".join(lines))
    newer.write_bytes(b"".join(b"%d %s\n" % event for event in frames(VENUE, "BTCUSDT", 10.0, seed=5, start_ns=1_800_000_000 * 10**9)))
    words = ("--venue", VENUE, "--lake", tmp_path / "lake", "--quiet")
    assert run("replay", newer, *words).exit_code == 0
    kept = books(tmp_path / "lake").tobytes()
    for files in ([older], [newer, older]):
        result = run("replay", *files, *words)
        assert result.exit_code == 3
        said = " ".join(result.output.split())
        assert "OutOfOrderError" in said
        assert "expected no earlier than" in said
    assert books(tmp_path / "lake").tobytes() == kept
    assert run("replay", older, "--venue", VENUE, "--lake", tmp_path / "other", "--quiet").exit_code == 0
    assert run("replay", newer, "--venue", VENUE, "--lake", tmp_path / "other", "--quiet").exit_code == 0
    assert run("replay", older, "--venue", VENUE, "--lake", tmp_path / "other", "--quiet").exit_code == 0  # known: adds nothing


def test_headings_are_whole_in_eighty_columns(capture, tmp_path):
    result = run("replay", capture, "--venue", VENUE, "--lake", tmp_path / "lake", "--quiet", env={"COLUMNS": "80"})
    assert any(line.split() == ["symbol", "books", "trades", "gaps", "crossed", "unreadable"] for line in result.output.splitlines())


def test_scoring_without_a_champion_says_so(tmp_path):
    Lake(tmp_path / "lake")
    result = run("score", "--lake", tmp_path / "lake", "--quiet")
    assert result.exit_code == 3
    assert "NoChampionError" in result.output


def test_quality_ends_with_one_where_something_is_doubtful(tmp_path, lines):
    clean, gapped = tmp_path / "clean", tmp_path / "gapped"
    path = tmp_path / "capture.txt"
    for lake, kept in ((clean, lines), (gapped, [*lines[: len(lines) // 2], *lines[len(lines) * 2 // 3 :]])):
        path.write_bytes(b"\n".join(kept) + b"\n")
        run("replay", path, "--venue", VENUE, "--lake", lake, "--quiet")
    result = run("quality", "--lake", clean, "--json", "--docs")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"], [row["kind"] for row in found["rows"]]) == (0, True, ["start"])
    assert Path(found["docs"]).read_text().count(SYMBOL) > 0
    assert found["streams"][0]["covered"] > 0.9
    result = run("quality", "--lake", gapped, "--venue", VENUE)
    assert result.exit_code == 1
    assert "should have come" in result.stdout
    assert run("quality", "--lake", gapped, "--symbol", "ETH-USDT").exit_code == 0
    assert run("quality", "--lake", gapped, "--since", "2100-01-01").exit_code == 0
    assert run("quality", "--lake", gapped, "--since", "yesterday").exit_code == 2


def test_captured_hours_are_replayed_as_a_folder(tmp_path, lines):
    first, other = Lake(tmp_path / "first"), tmp_path / "other"
    writer = RawWriter(first.root, VENUE, SYMBOL)
    for line in lines:
        stamp, _, frame = line.partition(b" ")
        writer.write(int(stamp), frame)
    writer.close()
    (hour,) = (folder for _, _, folder in hours(first.root))
    result = run("replay", hour, "--venue", VENUE, "--lake", other, "--quiet")
    assert result.exit_code == 0
    assert books(other).size > 100
    (path,) = hour.glob("*.zst")
    path.write_bytes(path.read_bytes()[:-100])
    result = run("replay", path, "--venue", VENUE, "--lake", tmp_path / "third", "--quiet")
    assert result.exit_code == 3
    assert "cut short" in result.output.replace("\n", " ")
