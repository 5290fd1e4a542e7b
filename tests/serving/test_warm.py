"""Kernels are compiled once for each state of sources, Numba and processor."""

from pathlib import Path

from serving import warm


def test_what_is_compiled_is_not_compiled_again_until_something_changes(tmp_path, monkeypatch):
    told, machine = [], ["one"]
    monkeypatch.setattr(warm, "key_cache", lambda: Path(tmp_path))
    monkeypatch.setattr(warm, "_state", lambda: machine[0])
    monkeypatch.setattr(warm, "PARTS", {"books": lambda: None, "scores": lambda: None})
    for _ in range(2):
        warm.compile_kernels(told.append, processes=1)
    assert told == ["books", "scores"]
    machine[0] = "another"
    warm.compile_kernels(told.append, processes=1)
    assert told == ["books", "scores"] * 2


def test_a_part_that_fails_is_tried_again(tmp_path, monkeypatch):
    told, left = [], [1]

    def fails_once():
        if left:
            left.pop()
            raise OSError("made")

    monkeypatch.setattr(warm, "key_cache", lambda: Path(tmp_path))
    monkeypatch.setattr(warm, "PARTS", {"books": fails_once})
    for _ in range(3):
        try:
            warm.compile_kernels(told.append, processes=1)
        except OSError:
            told.append("failed")
    assert told == ["failed", "books"]
