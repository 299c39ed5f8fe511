"""A reader written from `docs/format.md` alone reads what the package writes, to the tokens, and refuses what it refuses."""

from __future__ import annotations

import ast
import io
import itertools
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import plain_reader
import pytest
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.header import AudioHeader
from fsqcodec.audio.tokens import Encoded, StereoRun
from fsqcodec.bitstream.header import FileHeader
from fsqcodec.bitstream.packet import Packet
from fsqcodec.bitstream.primitives import crc, sized, varint
from fsqcodec.bitstream.reader import Reader, read_index
from fsqcodec.bitstream.writer import Writer
from fsqcodec.entropy.static import StaticTables
from fsqcodec.errors import BitstreamError
from fsqcodec.media.color import Colours
from fsqcodec.visual.header import VisualHeader
from helpers import GOLDEN, TESTS
from hypothesis import given
from hypothesis import strategies as st

SOURCE = (TESTS / "plain_reader.py").read_text(encoding="utf-8")


def test_it_is_short_and_plain() -> None:
    assert len(SOURCE.splitlines()) < 300
    imported = set()
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
            assert node.level == 0
    assert imported <= sys.stdlib_module_names


# the package's facts, as the plain reader names them


def facts_of(header: FileHeader) -> dict[str, object]:
    assert isinstance(header, AudioHeader | VisualHeader)
    common = {
        "model": header.model,
        "hashes": header.model_hash + header.table_hash,
        "stages": [header.stages_per_layer, header.packet_frames, header.stages],
        "tags": header.tags,
    }
    if isinstance(header, AudioHeader):
        return common | {
            "kind": 0,
            "length": header.samples,
            "frame": [header.frame_samples, header.frame_rate],
            "original": [header.sample_rate, header.channels],
            "stereo": int(header.mid_side),
        }
    return common | {
        "kind": 1,
        "length": header.frames,
        "size": [header.width, header.height],
        "tick": header.tick,
        "rate": header.frame_rate,
        "flags": header.still + 2 * header.grey + 4 * header.transparent,
        "colours": [header.colours.matrix, int(header.colours.full)],
        "sound": facts_of(header.audio) if header.audio else None,
        "passthrough": header.carried or {},
    }


def reduced(header: dict[str, object]) -> dict[str, object]:
    """Fractions in lowest terms, as the package holds them."""
    return {
        name: Fraction(*value) if name in ("tick", "rate") and isinstance(value, list) else value
        for name, value in header.items()
    }


def facts_of_packet(packet: Packet) -> plain_reader.Packet:
    return plain_reader.Packet(
        packet.stream, packet.start, packet.frames, packet.tail, packet.stereo, packet.layers, packet.offset
    )


def read_by_both(data: bytes) -> plain_reader.File | None:
    """What both readers find, which is the same; None where both refuse."""
    try:
        found = plain_reader.read(data)
    except ValueError:
        try:
            refused = Reader(io.BytesIO(data))
            list(refused)
        except BitstreamError:
            return None
        assert refused.missing  # the package takes what is there of a cut file, and says so
        assert not refused.complete
        return None
    reader = Reader(io.BytesIO(data))
    packets = list(reader)
    assert reduced(found.header) == facts_of(reader.header)
    assert found.packets == [facts_of_packet(packet) for packet in packets]
    assert found.whole == reader.complete
    index = read_index(io.BytesIO(data))
    # Who seeks needs the last four bytes, who reads in order does not.
    assert index is None or index == found.entries
    return found


# files

names = st.text(max_size=60)
tags = st.dictionaries(st.text(max_size=10), st.text(max_size=40), max_size=4)
hashes = st.tuples(st.binary(min_size=8, max_size=8), st.binary(min_size=4, max_size=4))
rates = st.one_of(st.sampled_from([8000, 24000, 44100, 48000]), st.integers(1, 1 << 20))


@st.composite
def sound_headers(draw: st.DrawFn) -> AudioHeader:
    channels = draw(st.integers(1, 3) | st.just(64))
    return AudioHeader(
        draw(names), *draw(hashes), draw(rates), draw(rates), draw(rates), channels,
        draw(st.none() | st.integers(0, 1 << 48)), draw(st.integers(1, 256)), draw(st.integers(1, 256)),
        draw(st.integers(1, 2048)), channels == 2 and draw(st.booleans()), draw(tags),
    )  # fmt: skip


@st.composite
def picture_headers(draw: st.DrawFn) -> VisualHeader:
    ratios = st.builds(Fraction, st.integers(1, 1 << 40), st.integers(1, 1 << 40))
    sound = draw(st.sampled_from(["none", "coded", "passed through"]))
    carried = {"codec": draw(names), "tick": [1, 48000], "sample": draw(st.binary(max_size=50)).hex()}
    colours = st.builds(Colours, st.sampled_from([0, 1, 4, 5, 6, 7, 9]), st.booleans())
    return VisualHeader(
        draw(names), *draw(hashes), draw(st.integers(1, 1 << 14)), draw(st.integers(1, 1 << 12)), draw(ratios), draw(ratios),
        draw(st.none() | st.integers(0, 40)), draw(st.integers(1, 256)), draw(st.integers(1, 256)), draw(st.integers(1, 256)),
        draw(st.booleans()), draw(st.booleans()), draw(st.booleans()), draw(colours), draw(tags),
        draw(sound_headers()) if sound == "coded" else None, carried if sound == "passed through" else None,
    )  # fmt: skip


@st.composite
def packets_of(draw: st.DrawFn, header: AudioHeader | VisualHeader) -> list[Packet]:
    """Packets of some streams of a file, in an order that a writer may choose."""
    ends, found = [0] * header.streams, []
    for _ in range(draw(st.integers(0, 9))):
        stream = draw(st.integers(0, header.streams - 1))
        most_layers, most_frames = header.packet_limits(stream)
        frames = draw(st.integers(1, most_frames))
        layers = tuple(
            draw(st.lists(st.binary(max_size=9), min_size=1, max_size=min(most_layers, 5))),
        )
        sound = header if isinstance(header, AudioHeader) else header.audio if stream else None
        modes = st.sampled_from(
            [None, 0, 1] if isinstance(sound, AudioHeader) and sound.channels == 2 else [None]
        )
        tail = draw(st.integers(0, frames)) if sound else 0
        found.append(Packet(stream, ends[stream], frames, layers, 0, tail, draw(modes)))
        ends[stream] += frames
    return found


def skippable(kind: int, body: bytes) -> bytes:
    head = bytes([kind]) + sized(body)
    return head + crc(head)


def file_of(header: FileHeader, packets: Sequence[Packet], extra: Sequence[bytes] = ()) -> bytes:
    """A file, with some extra bytes before each packet."""
    file = io.BytesIO()
    writer = Writer(file, header)
    for packet, before in itertools.zip_longest(packets, extra):
        if before:
            writer._put(before)  # the index must count it
        if packet:
            writer.write(packet)
    writer.finish()
    return file.getvalue()


@given(st.data(), st.one_of(sound_headers(), picture_headers()))
def test_it_reads_what_the_package_writes(data: st.DataObject, header: AudioHeader | VisualHeader) -> None:
    packets = data.draw(packets_of(header))
    found = read_by_both(file_of(header, packets))
    assert found is not None
    assert [packet.layers for packet in found.packets] == [packet.layers for packet in packets]
    assert [(packet.tail, packet.stereo) for packet in found.packets] == [(p.tail, p.stereo) for p in packets]


@given(st.data(), sound_headers())
def test_packets_that_may_be_skipped_are_skipped(data: st.DataObject, header: AudioHeader) -> None:
    bodies = st.builds(skippable, st.integers(0xE0, 0xEF), st.binary(max_size=30))
    extra = data.draw(st.lists(bodies, max_size=6))
    packets = data.draw(packets_of(header))
    file = file_of(header, packets, extra)
    found = read_by_both(file)
    assert found is not None
    assert len(found.packets) == len(packets)
    if extra:
        at = file.index(extra[0], len(header.pack()))
        wrong = at + len(extra[0]) - 1  # the last byte of its crc
        assert read_by_both(file[:wrong] + bytes([file[wrong] ^ 1]) + file[wrong + 1 :]) is None


@given(
    sound_headers(),
    st.integers(0, 255).filter(lambda kind: not 0xE0 <= kind < 0xF0 and kind not in (0xF1, 0xF4, 0xF5, 0xF6)),
)
def test_packets_that_must_be_known_are_refused(header: AudioHeader, kind: int) -> None:
    assert read_by_both(header.pack() + skippable(kind, b"anything")) is None


# fields, made by hand


def field(number: int, critical: int, value: bytes) -> bytes:
    return varint(2 * number + critical) + sized(value)


def split_fields(fields: bytes) -> dict[int, bytes]:
    """The bytes of each field by its number."""
    found, source = {}, plain_reader.Bytes(fields)
    while source.more():
        start, tag = source.at, source.varint(1 << 22)
        source.sized(1 << 18)
        found[tag // 2] = fields[start : source.at]
    return found


def sealed(fields: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15, zdict=plain_reader.DICTIONARY)
    head = b"FSQC\x04" + sized(deflater.compress(fields) + deflater.flush())
    return head + crc(head)


@given(
    st.one_of(sound_headers(), picture_headers()),
    st.integers(23, 59) | st.integers(63, 1 << 20),
    st.binary(max_size=40),
)
def test_header_fields_that_may_be_skipped_and_that_must_be_known(
    header: AudioHeader | VisualHeader, number: int, value: bytes
) -> None:
    fields = split_fields(header.fields())
    for critical in (0, 1):
        more = sorted({**fields, number: field(number, critical, value)}.items())
        found = read_by_both(sealed(b"".join(data for _, data in more)))
        assert (found is None) == bool(critical)


@given(st.data(), st.one_of(sound_headers(), picture_headers()))
def test_headers_altered_by_hand(data: st.DataObject, header: AudioHeader | VisualHeader) -> None:
    """A field left out, doubled, moved, longer, or of other bytes: both refuse, or both read the same."""
    fields = split_fields(header.fields())
    parts = list(fields.values())
    at = data.draw(st.integers(0, len(parts) - 1))
    number = list(fields)[at]
    what = data.draw(st.sampled_from(["drop", "double", "swap", "value", "bytes"]))
    if what == "drop":
        del parts[at]
    elif what == "double":
        parts.insert(at, parts[at])
    elif what == "swap":
        parts = parts[at:] + parts[:at]
    elif what == "value":
        parts[at] = field(
            number, 1, b"".join(map(varint, data.draw(st.lists(st.integers(0, 1 << 41), max_size=4))))
        )
    else:
        parts[at] = data.draw(st.binary(max_size=20))
    read_by_both(sealed(b"".join(parts)))


@pytest.mark.parametrize(("number", "refused"), [(62, False), (21, False), (22, True), (20, True)])
def test_values_of_no_bytes(number: int, refused: bool) -> None:
    """Tags and coded sound may be empty; a description of sound and numbers may not."""
    header = VisualHeader("tiny", b"modelhsh", b"tabl", 8, 8, Fraction(1), Fraction(1), 1, 25, 12, 32)
    fields = {**split_fields(header.fields()), number: field(number, 0, b"")}
    found = read_by_both(sealed(b"".join(data for _, data in sorted(fields.items()))))
    assert (found is None) == refused


@pytest.mark.parametrize("number", [0, 3, 1 << 20])
def test_packet_fields_that_may_be_skipped_and_that_must_be_known(number: int) -> None:
    header = AudioHeader("tiny", b"modelhsh", b"tabl", 480, 24000, 44100, 2, 0, 7, 3, 50)
    for critical in (0, 1):
        known = {1: field(1, 1, b"\x02"), 2: field(2, 1, b"\x01"), number: field(number, critical, b"new")}
        fields = b"".join(data for _, data in sorted(known.items()))
        found = read_by_both(header.pack() + skippable(0xF4, bytes([0, 0, 5, 1]) + sized(fields) + b"layer"))
        assert (found is None) == bool(critical)
        if found:
            (packet,) = found.packets
            assert (packet.tail, packet.stereo, packet.layers) == (2, 1, (b"layer",))


@given(st.data())
def test_damaged_files_are_refused_or_cut(data: st.DataObject) -> None:
    header = AudioHeader("tiny", b"modelhsh", b"tabl", 480, 24000, 44100, 2, 9, 7, 3, 50)
    file = bytearray(file_of(header, data.draw(packets_of(header))))
    at = data.draw(st.integers(0, len(file) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "insert", "remove"]))
    if change == "flip":
        file[at] ^= data.draw(st.integers(1, 255))
    elif change == "cut":
        del file[at:]
    elif change == "insert":
        file[at:at] = data.draw(st.binary(min_size=1, max_size=20))
    else:
        del file[at : at + data.draw(st.integers(1, 30))]
    read_by_both(bytes(file))


# tokens


def check_tokens(file: plain_reader.File, encoded: Encoded, tables: StaticTables) -> None:
    """The plain reader's tokens are the package's, but for those that stand in tails."""
    frequencies, levels = tables.frequencies.tolist(), tables.levels.tolist()
    counts = np.zeros((len(encoded.tokens), encoded.tokens.shape[2]), np.int64)
    for packet in file.packets:
        stages = plain_reader.tokens(file.header, packet, frequencies, levels, tables.groups)
        for number, stage in enumerate(stages):
            stop = packet.start + len(stage)
            assert stage == encoded.tokens[packet.stream, number, packet.start : stop].tolist()
            counts[packet.stream, packet.start : stop] += 1
    kept = np.full_like(counts, encoded.tokens.shape[1]) if encoded.kept is None else encoded.kept
    assert np.array_equal(counts, kept)


def test_it_decodes_messages_of_static_tables_to_tokens(codec: NeuralAudioCodec, encoded: Encoded) -> None:
    plain = codec.without_prior()
    tables = plain.coder
    assert isinstance(tables, StaticTables)
    stretch = replace(encoded, tokens=encoded.tokens[:, :, :90], samples=90 * 480)
    both = np.concatenate([stretch.tokens, stretch.tokens[:, :, ::-1]])
    stereo = replace(stretch, tokens=both, stereo=(StereoRun(0, False), StereoRun(40, True)))
    for each, kinds in (
        (stretch, {(None, False)}),
        (stereo.thinned(8, 25, 0.5), {(None, True), (1, True)}),
    ):
        file = read_by_both(plain.to_bytes(each, 0.5))
        assert file is not None
        assert {(packet.stereo, packet.tail > 0) for packet in file.packets} == kinds
        check_tokens(file, each, tables)


def test_it_refuses_messages_that_no_encoder_wrote(codec: NeuralAudioCodec, encoded: Encoded) -> None:
    tables = codec.without_prior().coder
    assert isinstance(tables, StaticTables)
    file = plain_reader.read(codec.without_prior().to_bytes(encoded))
    broken = file.packets[0]._replace(layers=(b"\xff" * 40,))
    with pytest.raises(ValueError, match="no encoder wrote"):
        plain_reader.tokens(
            file.header, broken, tables.frequencies.tolist(), tables.levels.tolist(), tables.groups
        )


@pytest.mark.parametrize("name", ["v4", "v4-stereo", "v4-picture", "v4-video"])
def test_it_reads_the_golden_files(name: str) -> None:
    data = (GOLDEN / f"{name}.fsq").read_bytes()
    file = read_by_both(data)
    assert file is not None
    assert file.whole


def test_of_a_file_with_a_prior_it_finds_the_messages(codec: NeuralAudioCodec, encoded: Encoded) -> None:
    assert read_by_both(codec.to_bytes(encoded)) is not None
