"""The container: headers, packets, the index, and whatever damages them."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fsqcodec.audio.header import AudioHeader
from fsqcodec.bitstream.header_dictionary import deflate, inflate
from fsqcodec.bitstream.packet import Packet, PacketLimits
from fsqcodec.bitstream.primitives import crc, read_varint, varint
from fsqcodec.bitstream.reader import Reader, read_index
from fsqcodec.bitstream.stats import file_stats
from fsqcodec.bitstream.writer import Writer
from fsqcodec.entropy.static import StaticTables
from fsqcodec.errors import BitstreamError
from fsqcodec.quantization.residual_fsq import ResidualFSQ
from fsqcodec.visual.header import VisualHeader
from helpers import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

HEADER = AudioHeader(
    "tiny", b"modelhsh", b"tabl", 480, 24000, 44100, 2, 176400, 7, 3, 50, True, {"title": "Größe"}
)


def _file(streams: int = 2, packets: int = 4, header: AudioHeader = HEADER, tail: int = 0) -> bytes:
    file = io.BytesIO()
    writer = Writer(file, header)
    for i in range(packets):
        for stream in range(streams):
            layers = tuple(bytes([i, stream, layer]) * (20 + 70 * layer) for layer in range(3))
            writer.write(Packet(stream, 50 * i, 50, layers, tail=tail))
    assert writer.finish() == len(file.getvalue())
    return file.getvalue()


def test_header_and_packets_come_back() -> None:
    data = _file()
    reader = Reader(io.BytesIO(data))
    assert reader.header == HEADER
    packets = list(reader)
    assert [(p.stream, p.start) for p in packets] == [(s, 50 * i) for i in range(4) for s in (0, 1)]
    assert packets[5].layers[2] == bytes([2, 1, 2]) * 160
    assert reader.complete
    assert reader.position == len(data)
    index = read_index(io.BytesIO(data))
    assert index == [(p.start, p.offset) for p in packets if p.stream == 0]


@pytest.mark.parametrize(
    ("packed", "fields"),
    [
        (
            "c32b0934f4631333c46200",
            "000a7370656563682d32346b4c16363080577757ca0a2c82e003c0bb01807d01f182031803fa010000",
        ),
        (
            "c3a6e102e3064646494946a8f500",
            "010676697375616cb145e80089e6aa7131f60648d001b00101191901026c0c01010000",
        ),
    ],
)
def test_the_dictionary_of_headers_stays_as_it_is(packed: str, fields: str) -> None:
    """Headers of a recording and of a picture, written in November 2026 by the models of then."""
    assert inflate(bytes.fromhex(packed), 100, 3).hex() == fields
    with pytest.raises(ValueError, match="more than 30"):
        inflate(bytes.fromhex(packed), 30, 3)


@given(st.binary(max_size=200), st.binary(max_size=3), st.sampled_from([3, 4]))
def test_fields_of_any_kind_are_deflated_and_come_back(fields: bytes, behind: bytes, version: int) -> None:
    packed = deflate(fields, version)
    assert inflate(packed, max(1, len(fields)), version) == fields
    for wrong in (packed[:-1], *([packed + behind] if behind else [])):
        with pytest.raises(ValueError, match=r"inflate|end"):
            inflate(wrong, 1000, version)


def test_a_header_that_inflates_without_end_takes_no_memory() -> None:
    body = deflate(bytes(1 << 24), 3)
    assert len(body) < 1 << 15
    head = b"FSQC\x03" + varint(len(body)) + body
    with pytest.raises(BitstreamError, match="more than 262144 bytes"):
        Reader(io.BytesIO(head + crc(head)))


@given(st.integers(0, 50))
def test_tails_come_back_and_go_with_their_layer(tail: int) -> None:
    plain, data = _file(), _file(tail=tail)
    assert len(data) == len(plain) + 8 * (tail > 0)
    reader = Reader(io.BytesIO(data))
    for packet in reader:
        assert packet.tail == tail
        assert packet.peel(3) == packet
        assert packet.peel(2).tail == 0
    assert reader.complete
    assert file_stats(Reader(io.BytesIO(data))).tails == 2 * 4 * tail


def test_a_tail_longer_than_its_packet_is_damage() -> None:
    body = Packet(0, 0, 50, (b"abc",), tail=50).pack()[2:-4]
    assert Packet.unpack(0xF6, body, PacketLimits(1, 1, 50)).tail == 50
    for wrong in (0, 51):
        with pytest.raises(ValueError, match=r"tail|limit"):
            Packet.unpack(0xF6, body[:3] + bytes([wrong]) + body[4:], PacketLimits(1, 1, 50))


@pytest.mark.parametrize(("samples", "whole"), [(176400, True), (None, False)])
def test_a_file_without_its_index_is_whole_when_the_header_tells_so(samples: int | None, whole: bool) -> None:
    data = _file(header=replace(HEADER, samples=samples))
    end = len(data) - int.from_bytes(data[-4:-1], "big") - 4
    reader = Reader(io.BytesIO(data[:end]))
    packets = list(reader)
    assert len(packets) == 8
    assert reader.complete == whole
    assert read_index(io.BytesIO(data[:end])) is None
    reader = Reader(io.BytesIO(data[: packets[-1].offset]))
    assert len(list(reader)) == 7
    assert not reader.complete


def test_few_packets_need_no_index_when_the_header_tells_the_length() -> None:
    known, open_ended = (_file(packets=3, header=replace(HEADER, samples=n)) for n in (130000, None))
    assert known.endswith(list(Reader(io.BytesIO(known)))[-1].pack())
    assert open_ended[-1] == 0xF2
    for data in (known, open_ended):
        reader = Reader(io.BytesIO(data))
        assert len(list(reader)) == 6
        assert reader.complete


def test_statistics_count_every_byte() -> None:
    data = _file()
    found = file_stats(Reader(io.BytesIO(data)))
    assert found.total == len(data)
    assert found.layers == (8 * 60, 8 * 270, 8 * 480)
    assert found.overhead == len(data) - sum(found.layers)
    assert found.layers_within(found.kbps()) == 3
    assert found.layers_within(0.001) == 1


def test_reading_from_a_pipe_that_gives_single_bytes() -> None:
    class Dripping(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.inner = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self.inner.read(1)

    assert len(list(Reader(Dripping(_file())))) == 8  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: b"RIFF" + d[4:], "not an .fsq file; encode"),
        (lambda d: d[:4] + b"\x09" + d[5:], "version 9"),
        (lambda d: d[:3], "not an .fsq file"),
        (lambda d: d[:20], "ends inside its header"),
        (lambda d: d[:10] + b"X" + d[11:], "header is damaged"),
        (lambda d: d[:5] + b"\xff" * 9 + d[14:], "header:"),
        (lambda d: d[:200] + bytes([d[200] ^ 1]) + d[201:], "checksum"),
        (lambda d: d + b"more", "behind the end"),
    ],
)
def test_damage_is_one_line_with_name_and_byte(change: object, says: str) -> None:
    with pytest.raises(BitstreamError, match=r"^talk.fsq: byte \d+: .*" + says) as caught:
        list(Reader(io.BytesIO(change(_file())), "talk.fsq"))  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_a_cut_file_is_read_as_far_as_it_goes_and_says_so() -> None:
    reader = Reader(io.BytesIO(_file()[:-600]), "talk.fsq")
    assert 0 < len(list(reader)) < 8
    assert re.fullmatch(r"byte \d+: the file ends inside a packet; \d\.\d\d s are missing", reader.missing)
    assert not reader.complete


def test_keep_going_loses_the_damaged_packet_only() -> None:
    data = bytearray(_file())
    offset = list(Reader(io.BytesIO(bytes(data))))[3].offset
    data[offset + 30] ^= 0xFF
    reader = Reader(io.BytesIO(bytes(data)), keep_going=True)
    assert [(p.stream, p.start) for p in reader] == [
        (0, 0),
        (1, 0),
        (0, 50),
        (0, 100),
        (1, 100),
        (0, 150),
        (1, 150),
    ]
    assert reader.lost > 300


def test_a_hostile_gap_is_not_believed() -> None:
    file = io.BytesIO()
    writer = Writer(file, replace(HEADER, channels=1, mid_side=False))
    writer.write(Packet(0, 0, 50, (b"abc",)))
    writer.write(Packet(0, 1 << 40, 50, (b"abc",)))
    writer.finish()
    assert [p.start for p in Reader(io.BytesIO(file.getvalue()), keep_going=True)] == [0]
    with pytest.raises(BitstreamError, match="missing"):
        list(Reader(io.BytesIO(file.getvalue())))


@pytest.mark.parametrize("size", [2**20, 2**60])
def test_sizes_beyond_limits_are_refused_before_memory_is_taken(size: int) -> None:
    header = HEADER.pack()
    with pytest.raises(BitstreamError, match=r"limit|without end"):
        list(Reader(io.BytesIO(header + b"\xf5" + varint(size) + b"\0" * 100)))
    body = varint(0) + varint(size) + b"x"
    with pytest.raises(BitstreamError):
        Reader(io.BytesIO(b"FSQC\x01" + varint(len(body)) + body + b"\0" * 4))


@given(st.binary(max_size=400), st.booleans())
def test_rubbish_behind_a_header_never_breaks_the_reader(data: bytes, keep_going: bool) -> None:
    try:
        list(Reader(io.BytesIO(HEADER.pack() + data), keep_going=keep_going))
    except BitstreamError:
        assert not keep_going


@given(st.data())
def test_damaged_files_give_intact_packets_or_an_error(data: st.DataObject) -> None:
    original = _file()
    good = {p.pack() for p in Reader(io.BytesIO(original))}
    damaged = bytearray(original)
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "remove", "splice"]))
    at = data.draw(st.integers(0, len(damaged) - 1))
    size = data.draw(st.integers(1, 300))
    if kind == "flip":
        damaged[at] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del damaged[at:]
    elif kind == "insert":
        damaged[at:at] = data.draw(st.binary(min_size=1, max_size=50))
    elif kind == "remove":
        del damaged[at : at + size]
    else:
        damaged[at:at] = original[size : size + 700]
    for keep_going in (True, False):
        try:
            reader = Reader(io.BytesIO(bytes(damaged)), keep_going=keep_going)
            for packet in reader:
                assert replace(packet, offset=0).pack() in good
        except BitstreamError:
            assert not keep_going or damaged[:160] != original[:160]  # only a header is past help


@given(st.integers(0, 2**48))
def test_varints(value: int) -> None:
    assert read_varint(varint(value), 0, 2**48) == (value, len(varint(value)))


def test_golden_file_of_version_1(tmp_path: Path) -> None:
    """Written once in November 2026; a program that cannot read it has changed the format."""
    facts = json.loads((GOLDEN / "v1.json").read_text())
    arrays = np.load(GOLDEN / "v1.npz")
    quantizer = ResidualFSQ(facts["levels"], facts["groups"], facts["stages"])
    tables = StaticTables(arrays["tables"], quantizer)
    assert tables.hash.hex() == facts["table_hash"]
    reader = Reader(io.BytesIO((GOLDEN / "v1.fsq").read_bytes()))
    per_layer = reader.header.stages_per_layer
    for packet in reader:
        tokens = np.zeros((packet.frames, facts["stages"]), np.int32)
        for i, layer in enumerate(packet.layers):
            tables.decode(layer, tokens, i * per_layer, min((i + 1) * per_layer, facts["stages"]))
            last = min((i + 1) * per_layer, facts["stages"])
            assert tables.encode(tokens, i * per_layer, last) == layer
        expected = arrays["tokens"][packet.stream, :, packet.start : packet.start + packet.frames]
        assert np.array_equal(tokens.T, expected)
    assert reader.complete


@pytest.mark.parametrize("whole", [True, False])
def test_frames_that_a_source_only_claimed_are_not_missed_of_a_whole_file(whole: bool) -> None:
    header = VisualHeader(
        "tiny", b"modelhsh", b"tabl", 80, 64, Fraction(1, 25), Fraction(25), 100, 24, 12, 32
    )
    file = io.BytesIO()
    writer = Writer(file, header)
    writer.write(Packet(0, 0, 32, (b"side", b"abc")))
    if whole:
        writer.finish()
    reader = Reader(io.BytesIO(file.getvalue()))
    assert len(list(reader)) == 1
    assert reader.complete == whole
    assert bool(reader.missing) != whole
