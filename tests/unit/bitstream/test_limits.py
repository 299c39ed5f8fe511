"""What a writer may write, a reader accepts; anything else is refused when it is written."""

from __future__ import annotations

import io
import random
from dataclasses import replace

import pytest
from fsqcodec.audio.header import AudioHeader
from fsqcodec.bitstream import reader as reading
from fsqcodec.bitstream.fields import MAX_FIELDS
from fsqcodec.bitstream.header import seal
from fsqcodec.bitstream.header_dictionary import deflate
from fsqcodec.bitstream.packet import Packet
from fsqcodec.bitstream.primitives import crc, sized
from fsqcodec.bitstream.reader import Reader
from fsqcodec.bitstream.writer import Writer
from fsqcodec.errors import BitstreamError

HEADER = AudioHeader("tiny", b"modelhsh", b"tabl", 480, 24000, 44100, 2, 176400, 7, 3, 50)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"channels": 0}, "do not fit together"),
        ({"channels": 3, "mid_side": True}, "do not fit together"),
        ({"packet_frames": 0}, "do not fit together"),
        ({"table_hash": b"tab"}, "hashes are cut"),
        ({"tags": {"year": 2026}}, "tags are not text"),
        ({"sample_rate": 1 << 21}, "sample rate"),
        ({"tags": {"comment": "x" * MAX_FIELDS}}, "262144"),
    ],
)
def test_headers_that_no_reader_accepts_are_not_written(facts: dict[str, object], says: str) -> None:
    with pytest.raises(BitstreamError, match=says):
        Writer(io.BytesIO(), replace(HEADER, **facts))  # type: ignore[arg-type]


def test_a_header_that_deflating_makes_too_long_is_not_written() -> None:
    noise = random.Random(0).randbytes(MAX_FIELDS)
    assert len(deflate(noise, 4)) > MAX_FIELDS
    with pytest.raises(BitstreamError, match="more than 262144"):
        seal(noise)


@pytest.mark.parametrize("kind", [b"\x02\x01\x00", b"\x03\x02\x80\x00", b"\x00\x01\x00"])
def test_a_header_begins_with_its_kind(kind: bytes) -> None:
    fields = HEADER.fields()
    assert fields[:3] == b"\x03\x01\x00"
    head = b"FSQC\x04" + sized(deflate(kind + fields[3:], 4))
    with pytest.raises(BitstreamError, match="kind does not come first"):
        Reader(io.BytesIO(head + crc(head)))


@pytest.mark.parametrize(
    "packet",
    [
        Packet(0, 0, 0, (b"abc",)),
        Packet(0, 0, 5, ()),
        Packet(0, 0, 5, (b"abc",), tail=6),
        Packet(0, 0, 5, (b"abc",), tail=6, stereo=1),
        Packet(0, 0, 5, (b"abc",), stereo=2),
        Packet(0, 0, 101, (b"abc",)),
        Packet(2, 0, 5, (b"abc",)),
    ],
)
def test_packets_that_no_reader_accepts_are_not_written(packet: Packet) -> None:
    writer = Writer(io.BytesIO(), HEADER)
    with pytest.raises(BitstreamError):
        writer.write(packet)


def test_packets_that_go_back_are_not_written() -> None:
    writer = Writer(io.BytesIO(), HEADER)
    writer.write(Packet(0, 0, 50, (b"abc",)))
    writer.write(Packet(1, 0, 50, (b"abc",)))  # the other stream has a time of its own
    with pytest.raises(BitstreamError, match="goes back from frame 50 to 49"):
        writer.write(Packet(0, 49, 50, (b"abc",)))


def test_an_intact_packet_is_never_too_long_to_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is for false packets: a true one of any size that a file can hold comes first."""
    monkeypatch.setattr(reading, "_FREE", 100)
    file = io.BytesIO()
    writer = Writer(file, HEADER)
    writer.write(Packet(0, 0, 50, (bytes(60000),)))
    assert len(list(Reader(io.BytesIO(file.getvalue()), keep_going=True))) == 1
