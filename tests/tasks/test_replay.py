import asyncio
import gzip
import time
import zlib

import pytest
import zstandard

from simulator import frames, write_capture
from tasks.replay import CaptureError, CaptureTruncatedError, NoSymbolError, only, read_capture, replay, routed, session_of, symbols_of
from tests.bybit_frames import frames as bybit_frames

FRAMES = list(frames("binance_usdm", "BTCUSDT", 4.0, seed=1))


def lines_of(pairs):
    return b"".join(b"%d %s\n" % pair for pair in pairs)


def until_cut(paths):
    """Return what a capture hands on and the error that ends it."""
    out = []
    with pytest.raises(CaptureTruncatedError) as cut:
        out.extend(read_capture(paths))
    return out, cut.value


@pytest.mark.parametrize("suffix", ["gz", "zst", "txt"])
def test_capture_reads_back_what_was_written(tmp_path, suffix):
    path = tmp_path / f"capture.{suffix}"
    assert write_capture(path, FRAMES) == len(FRAMES)
    told = []
    assert list(read_capture([path], told.append)) == FRAMES
    assert sum(told) == path.stat().st_size


def test_format_is_told_by_content_and_not_by_name(tmp_path):
    path = tmp_path / "capture.log"
    path.write_bytes(gzip.compress(lines_of(FRAMES)))
    assert list(read_capture([path])) == FRAMES


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_many_compressed_frames_in_one_file_are_one_capture(tmp_path, pack):
    path = tmp_path / "capture"
    path.write_bytes(b"".join(pack(lines_of(FRAMES)[at : at + 5_000]) for at in range(0, len(lines_of(FRAMES)), 5_000)))
    assert list(read_capture([path])) == FRAMES


def test_several_files_are_one_session(tmp_path):
    paths = [tmp_path / "first.gz", tmp_path / "second.zst", tmp_path / "third"]
    for i, path in enumerate(paths):
        write_capture(path, FRAMES[i * 100 : (i + 1) * 100])
    assert list(read_capture(paths)) == FRAMES[:300]
    assert session_of(paths)[0] == "BTCUSDT"


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_lines_before_a_cut_are_all_handed_on_and_then_it_is_told(tmp_path, suffix):
    path = tmp_path / f"capture.{suffix}"
    write_capture(path, FRAMES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    unpack = zlib.decompressobj(31) if suffix == "gz" else zstandard.ZstdDecompressor().decompressobj()
    readable = unpack.decompress(path.read_bytes()).count(b"\n")
    out, cut = until_cut([path])
    assert out == FRAMES[:readable]
    assert cut.lines == readable
    assert str(path) in str(cut)
    if suffix == "gz":
        assert readable > 100


def test_cut_at_any_byte_hands_on_only_whole_lines(tmp_path):
    packed = gzip.compress(lines_of(FRAMES[:40]))
    path = tmp_path / "capture.gz"
    for size in range(20, len(packed), 97):
        path.write_bytes(packed[:size])
        out, _ = until_cut([path])
        assert out == FRAMES[: len(out)]


def test_torn_end_of_many_zstd_frames_costs_only_itself(tmp_path):
    pack = zstandard.ZstdCompressor().compress
    path = tmp_path / "capture.zst"
    path.write_bytes(pack(lines_of(FRAMES[:50])) + pack(lines_of(FRAMES[50:90])) + pack(lines_of(FRAMES[90:]))[:-7])
    out, cut = until_cut([path])
    assert out[:90] == FRAMES[:90]
    assert out == FRAMES[: len(out)]
    assert cut.lines == len(out)


def test_damaged_byte_is_told(tmp_path):
    packed = bytearray(gzip.compress(lines_of(FRAMES)))
    packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / "capture.gz"
    path.write_bytes(packed)
    until_cut([path])


def test_line_without_a_stamp_is_handed_on_whole_with_the_last_stamp(tmp_path):
    path = tmp_path / "capture"
    path.write_bytes(b'5 {"a":1}\nnonsense here\n\n99999999999999999999 {}\n7 {"b":2}')
    assert list(read_capture([path])) == [(5, b'{"a":1}'), (5, b"nonsense here"), (5, b"99999999999999999999 {}"), (7, b'{"b":2}')]


def test_empty_file_has_no_frames_and_no_symbol(tmp_path):
    path = tmp_path / "capture"
    path.touch()
    assert list(read_capture([path])) == []
    with pytest.raises(NoSymbolError):
        session_of([path])


def test_capture_without_a_symbol_says_what_was_found(tmp_path):
    path = tmp_path / "capture"
    path.write_bytes(b"1 hello\n2 world\n")
    with pytest.raises(NoSymbolError, match=r"found none in 2 lines; the first is b'hello'"):
        session_of([path])


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CaptureError, match="nowhere"):
        list(read_capture([tmp_path / "nowhere"]))


def test_same_capture_gets_the_same_session_and_another_one_another(tmp_path):
    paths = [tmp_path / name for name in ("one.gz", "same.zst", "other.gz")]
    for path, part in zip(paths, (FRAMES, FRAMES, FRAMES[1:]), strict=True):
        write_capture(path, part)
    one, same, other = (session_of([path]) for path in paths)
    assert one == same
    assert one[1] != other[1]


@pytest.mark.parametrize(("speed", "least_s"), [(0.0, 0.0), (10.0, 0.35)])
def test_pace_is_that_of_the_recording(tmp_path, speed, least_s):
    path = tmp_path / "capture.gz"
    write_capture(path, FRAMES)

    async def read():
        return [pair async for _, *pair in replay([path], "BTCUSDT", speed)]

    began = time.monotonic()
    out = asyncio.run(read())
    took_s = time.monotonic() - began
    assert list(map(tuple, out)) == FRAMES
    assert least_s <= took_s < least_s + 5.0


def test_a_connection_of_several_symbols_is_handed_out_as_live(tmp_path):
    path, frames = tmp_path / "bybit.txt", []
    for a, b in zip(bybit_frames(20, symbol="BTCUSDT"), bybit_frames(20, seed=1, symbol="ETHUSDT"), strict=False):
        frames += [a, b]
    path.write_bytes(b"".join(b"%d %s\n" % (i, frame) for i, frame in enumerate(frames)))
    symbols, session = symbols_of([path], "bybit_linear")
    assert symbols == ["BTCUSDT", "ETHUSDT"]
    assert session == session_of([path], "bybit_linear")[1]

    async def handed():
        return [item async for item in routed(replay([path], symbols[0]), "bybit_linear", symbols)]

    told = asyncio.run(handed())
    assert [(receive_ns, frame) for _, receive_ns, frame in told] == list(enumerate(frames))
    assert all(symbol.encode() in frame for symbol, _, frame in told)
    alone = list(only(read_capture([path]), "bybit_linear", symbols, "ETHUSDT"))
    assert [frame for _, frame in alone] == [frame for symbol, _, frame in told if symbol == "ETHUSDT"]
