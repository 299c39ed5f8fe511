"""A reader who follows a command through the code meets few files."""

from __future__ import annotations

from pathlib import Path

import count_files

ENCODE, DECODE = 40, 48
"""Files today. Who needs fewer lowers the limit; the aims are 18 and 24."""


def test_encoding_a_sound_touches_few_files(tmp_path: Path) -> None:
    walk = count_files.encode_sound(tmp_path)
    assert "codec/audio/model.py" in walk
    assert len(walk) <= ENCODE, sorted(walk)


def test_decoding_a_video_touches_few_files(tmp_path: Path) -> None:
    walk = count_files.decode_video(tmp_path)
    assert "codec/visual/model.py" in walk
    assert len(walk) <= DECODE, sorted(walk)


def test_calls_made_by_an_import_do_not_count(tmp_path: Path) -> None:
    assert len(count_files.command("--help")) < 5
