"""`docs/format.md` and the code tell the same bytes: files are made and taken apart here by the page alone."""

from __future__ import annotations

import binascii
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import fsqcodec
import numpy as np
import plain_reader
import pytest
from fsqcodec.audio import header as audio_header
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.bitstream import fields as fields_module
from fsqcodec.bitstream import header as header_module
from fsqcodec.bitstream import packet as packet_module
from fsqcodec.bitstream import writer as writer_module
from fsqcodec.bitstream.fields import Field
from fsqcodec.bitstream.header_dictionary import deflate, inflate
from fsqcodec.bitstream.reader import Reader, read_index
from fsqcodec.entropy import range_coder
from fsqcodec.entropy.static import StaticTables
from fsqcodec.media.image import MAX_PIXELS
from fsqcodec.quantization.residual_fsq import ResidualFSQ
from fsqcodec.visual import header as visual_header
from fsqcodec.visual import skip as skip_module
from helpers import ROOT

PAGE = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
MAGIC = bytes.fromhex(re.findall(r"`([0-9A-F ]+)` \| magic", PAGE)[0])
VERSION = int(re.findall(r"`(\d\d)` \| version", PAGE)[0], 16)
LEGACY = 3
"""The last version whose fields are plain."""
SOUND = {
    "kind": 0, "name of the model": "tiny", "model_hash": b"modelhsh", "table_hash": b"tabl", "frame_samples": 480,
    "frame_rate": 24000, "sample_rate": 44100, "channels": 2, "samples + 1": 176401, "stages": 7, "stages_per_layer": 3,
    "packet_frames": 50, "mid_side": 0, "tags": '{"title":"Größe"}',
}  # fmt: skip
VIDEO = {
    "kind": 1, "name": "tiny", "model_hash": b"modelhsh", "prior_hash": b"tabl", "width": 80, "height": 64, "tick_num": 1,
    "tick_den": 600, "rate_num": 25, "rate_den": 1, "frames + 1": 11, "stages": 24, "stages_per_layer": 12,
    "packet_frames": 32, "flags": 2 + 16 * 6 + 256, "tags": "", "audio": "",
}  # fmt: skip


def dictionary(version: int) -> bytes:
    """The preset dictionary of version 3 or 4."""
    return bytes.fromhex(PAGE.split(f"dictionary of version {version}\n")[1].split("```")[0])


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the high bit set on all but the last."""
    return bytes([value]) if value < 128 else bytes([value % 128 + 128]) + varint(value // 128)


def number(data: bytes, at: int) -> tuple[int, int]:
    """A varint and the place behind it."""
    value = data[at] % 128
    if data[at] < 128:
        return value, at + 1
    rest, end = number(data, at + 1)
    return value + 128 * rest, end


def rows(title: str) -> list[list[str]]:
    """Cells of the rows of the table that follows a line of the page."""
    lines = PAGE.split(title, 1)[1].lstrip("\n").split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def fields(title: str, values: dict[str, object]) -> bytes:
    """Header fields in the order and of the types that the page's table tells."""
    left, body = dict(values), b""
    for names, types, _ in rows(title):
        # One row may tell several fields; after "varint" and in brackets stands what the number may be.
        names_here = [name for name in names.split(", ") if name in left] or [names]
        kinds = re.sub(r"varint, .*", "varint", types).replace(", UTF-8", "").replace(", JSON or empty", "")
        for name, kind in zip(names_here, (kinds.split(", ") * 9)[: len(names_here)], strict=True):
            value = left.pop(name)
            if isinstance(value, int):
                assert kind in ("varint", "varints"), name
                body += varint(value)
            elif isinstance(value, bytes):
                assert kind == str(len(value)), name
                body += value
            else:
                assert kind == "bytes" or kind.startswith("bytes;") or not kind, (name, kind)
                body += varint(len(str(value).encode())) + str(value).encode()
    assert not left
    return body


def head(body: bytes, version: int) -> bytes:
    """A header of its fields."""
    if version >= 3:
        deflater = zlib.compressobj(9, wbits=-15, zdict=dictionary(version))
        body = deflater.compress(body) + deflater.flush()
    data = MAGIC + bytes([version]) + varint(len(body)) + body
    return data + zlib.crc32(data).to_bytes(4, "big")


@pytest.mark.parametrize("version", [3, 4])
def test_the_dictionaries_are_those_of_the_page(version: int) -> None:
    usual = dictionary(version)
    sizes = [int(size) for size in re.findall(r"dictionary of (\d+) bytes", PAGE)]
    assert sorted([len(dictionary(3)), len(dictionary(4))]) == sorted(sizes)
    inflater = zlib.decompressobj(-15, usual)
    assert inflater.decompress(deflate(usual, version)) == usual  # all of it is one reference into it
    deflater = zlib.compressobj(9, wbits=-15, zdict=usual)
    assert inflate(deflater.compress(usual) + deflater.flush(), len(usual), version) == usual


def test_the_plain_reader_has_the_dictionary_of_the_page() -> None:
    assert dictionary(VERSION) == plain_reader.DICTIONARY


@pytest.mark.parametrize("version", range(1, LEGACY + 1))
def test_plain_headers_made_by_the_page_are_read(version: int) -> None:
    sound = Reader(io.BytesIO(head(fields("Sound (kind 0):", SOUND), version))).header
    assert isinstance(sound, audio_header.AudioHeader)
    assert (sound.model, sound.model_hash, sound.table_hash) == ("tiny", b"modelhsh", b"tabl")
    assert (sound.frame_samples, sound.frame_rate, sound.sample_rate, sound.channels) == (
        480,
        24000,
        44100,
        2,
    )
    assert (sound.samples, sound.stages, sound.stages_per_layer, sound.packet_frames) == (176400, 7, 3, 50)
    assert (sound.mid_side, sound.tags) == (False, {"title": "Größe"})
    video = Reader(io.BytesIO(head(fields("Pictures and video (kind 1):", VIDEO), version))).header
    assert isinstance(video, visual_header.VisualHeader)
    assert (video.width, video.height, video.tick, video.frame_rate) == (80, 64, Fraction(1, 600), 25)
    assert (video.frames, video.stages, video.stages_per_layer, video.packet_frames) == (10, 24, 12, 32)
    assert (video.still, video.grey, video.transparent) == (False, True, False)
    assert (video.colours.matrix, video.colours.full) == (6, True)


def test_a_newer_version_and_another_magic_are_refused() -> None:
    good = head(fields("Sound (kind 0):", SOUND), LEGACY)
    for wrong in (b"FSQD" + good[4:], good[:4] + bytes([VERSION + 1]) + good[5:]):
        with pytest.raises(fsqcodec.BitstreamError):
            Reader(io.BytesIO(wrong))


def limits() -> dict[str, int]:
    """Of the numbers in a header of sound, written as 256 or 2^20."""
    found = {}
    for name, kind, limit in rows("Sound (kind 0):"):
        if kind == "varint" and (match := re.match(r"(\d+)\^?(\d*)", limit)):
            found[name] = int(match[1]) ** int(match[2] or 1)
    return found


LIMITS = limits()


@pytest.mark.parametrize("name", LIMITS)
def test_limits_of_plain_headers_are_those_of_the_page(name: str) -> None:
    accepted = Reader(
        io.BytesIO(head(fields("Sound (kind 0):", {**SOUND, name: LIMITS[name]}), LEGACY))
    ).header
    assert accepted.model == "tiny"
    with pytest.raises(fsqcodec.BitstreamError):
        Reader(io.BytesIO(head(fields("Sound (kind 0):", {**SOUND, name: LIMITS[name] + 1}), LEGACY)))


def test_all_numbers_of_the_plain_sound_header_have_a_limit() -> None:
    assert set(LIMITS) == {
        name for name, value in SOUND.items() if isinstance(value, int) and name not in ("kind", "mid_side")
    }


# version 4: what the page says of fields, packets and limits


def power(text: str) -> int:
    """A number as the page writes it, 2048 or 2^48."""
    base, _, exponent = text.partition("^")
    return int(base) ** int(exponent or 1)


WHERE: dict[str, Sequence[Field]] = {
    "every header": header_module.COMMON,
    "header of sound": audio_header.FIELDS,
    "header of pictures": visual_header.FIELDS,
    "packet": packet_module.FIELDS,
}


@pytest.mark.parametrize("where", WHERE)
def test_the_table_of_fields_is_that_of_the_code(where: str) -> None:
    told = [row[1:6] for row in rows("### Table of all fields\n\n") if row[0] == where]
    assert len(told) == len(WHERE[where])
    for (number, name, critical, _, limits), known in zip(told, WHERE[where], strict=True):
        assert (int(number), name, critical) == (known.number, known.name, "yes" if known.critical else "no")
        if known.size:
            assert limits == f"{known.size} bytes"
        else:
            assert tuple(map(power, limits.split(", "))) == known.limits


def test_all_places_of_the_table_are_known() -> None:
    assert {row[0] for row in rows("### Table of all fields\n\n")} == set(WHERE)


def typed_header(missing: int = 0) -> bytes:
    """A header of sound of the fields that the page gives no default, but for one."""
    values = {1: b"\0", 2: b"tiny", 3: b"modelhshtabl", 16: varint(480) + varint(24000), 17: varint(44100) + b"\2",
              60: b"\3\x32\7"}  # fmt: skip
    needed = [int(row[1]) for row in rows("### Table of all fields\n\n")
              if row[6] == "—" and row[0] in ("every header", "header of sound")]  # fmt: skip
    assert sorted(needed) == sorted(values)
    body = [varint(2 * n + 1) + varint(len(v)) + v for n, v in sorted(values.items()) if n != missing]
    return head(b"".join(body), VERSION)


def test_fields_without_a_default_are_needed_and_others_are_not() -> None:
    header = Reader(io.BytesIO(typed_header())).header
    assert header == audio_header.AudioHeader(
        "tiny", b"modelhsh", b"tabl", 480, 24000, 44100, 2, None, 7, 3, 50
    )
    assert header.pack() == typed_header()
    for number in (1, 2, 3, 16, 17, 60):
        with pytest.raises(fsqcodec.BitstreamError):
            Reader(io.BytesIO(typed_header(missing=number)))


def test_kinds_of_packets_are_those_of_the_page() -> None:
    told = {text: kind for kind, text, _ in rows("It decodes by itself.\n\n")}
    kinds = {text: int(kind.strip("`"), 16) for text, kind in told.items() if text != "skippable"}
    assert kinds == {
        "plain": packet_module.PACKET,
        "with a tail": packet_module.TAILED,
        "with fields": packet_module.TYPED_PACKET,
    }
    first, last = (int(kind, 16) for kind in re.findall(r"`(..)`", told["skippable"]))
    assert range(first, last + 1) == packet_module.SKIPPABLE
    assert int(re.findall(r"\| index \| `(..)`", PAGE)[0], 16) == writer_module.INDEX
    assert int(re.findall(r"size u24, `(..)`", PAGE)[0], 16) == writer_module.END


def test_limits_of_packets_are_those_of_the_page() -> None:
    told = {
        row[0]: row[1:]
        for row in rows("| layer | | the most important first; trailing ones may be missing | |\n\n")
    }
    sound = audio_header.AudioHeader("tiny", b"modelhsh", b"tabl", 480, 24000, 44100, 2, None, 7, 3, 50)
    film = visual_header.VisualHeader(
        "tiny", b"modelhsh", b"tabl", 8, 8, Fraction(1), Fraction(1), 1, 25, 12, 32
    )
    assert int(told["sound"][3]) == sound.max_packet
    for name in ("pictures", "coded sound of a video", "sound that passes through"):
        assert int(told[name][3]) == film.max_packet
    assert sound.packet_limits(1) == (3, 100)
    assert replace(sound, packet_frames=2000).packet_limits(0) == (3, 2048)
    assert "2048" in told["sound"][2]
    assert film.packet_limits(0) == (1 + 3, 64)
    passed = replace(film, carried={"codec": "aac"})
    assert passed.packet_limits(1) == (
        int(told["sound that passes through"][1]),
        int(told["sound that passes through"][2]),
    )
    assert (passed.streams, replace(film, audio=sound).streams) == (2, 3)
    assert replace(film, audio=sound).packet_limits(2) == sound.packet_limits(1)
    limits = {row[0]: row[3] for row in rows("| `E0` … `EF` | skippable | anything |\n\n")}
    assert power(limits["start"]) == packet_module.MAX_START
    assert int(limits["fields"].split()[0]) == packet_module._MAX_FIELDS
    side = {row[0]: row[1] for row in rows("[PNG of the transparency]\n```\n\n")}
    assert (power(side["first time"]), power(side["steps"])) == (
        visual_header.MAX_TIME,
        visual_header.MAX_STEP,
    )


def test_other_limits_are_those_of_the_page() -> None:
    def told(pattern: str) -> int:
        return power(re.findall(pattern, prose)[0])

    prose = " ".join(PAGE.split())

    assert told(r"Numbers of fields go up to (\d+)") == fields_module.MAX_NUMBER
    assert told(r"take at most (\d+) bytes, before and after deflating") == fields_module.MAX_FIELDS
    assert told(r"frames of a packet in a header of pictures are at most (\d+)") == visual_header.MAX_GROUP
    assert told(r"the product at most (2\^\d+)") == MAX_PIXELS
    assert told(r"Its length is at most (\d+)") == writer_module.MAX_INDEX
    assert told(r"Up to (\d+) packets of stream 0, each has an entry") == writer_module._MOST_ENTRIES
    assert re.findall(r"a gap longer than (\d+) · \(1 \+ lost bytes // (\d+)\)", prose) == [
        (str(packet_module.MAX_FRAMES), str(packet_module.SMALLEST_PACKET))
    ]
    assert told(r"where a count is above (\d+), both are halved") == skip_module._MOST


def test_the_index_is_sparse_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index is sparse in long files: every second packet, every fourth, from the first on."""
    monkeypatch.setattr(writer_module, "_MOST_ENTRIES", 4)
    header = audio_header.AudioHeader("tiny", b"modelhsh", b"tabl", 480, 24000, 8000, 1, None, 7, 3, 50)
    for packets, step in ((4, 1), (5, 2), (8, 2), (9, 4)):
        file = io.BytesIO()
        writer = writer_module.Writer(file, header)
        for number in range(packets):
            writer.write(packet_module.Packet(0, 50 * number, 50, (b"abc",)))
        writer.finish()
        starts = [start for start, _ in read_index(file) or []]
        assert starts == list(range(0, 50 * packets, 50 * step))


# the worked example


def dump() -> bytes:
    return bytes.fromhex(PAGE.split("```text\nworked example\n")[1].split("```")[0])


def example_header() -> audio_header.AudioHeader:
    tags = {"title": "Hi"}
    return audio_header.AudioHeader(
        "toy", bytes(range(1, 9)), example_tables().hash, 160, 8000, 8000, 2, None, 2, 1, 4, tags=tags
    )


def example_tables() -> StaticTables:
    """The static tables of the page."""
    frequencies = np.zeros((2, 1, 3, 3), np.int32)
    for stage, contexts, *row in rows("in units of 2^22 = 4194304:\n\n"):
        for context in contexts.split(", "):
            frequencies[int(stage), 0, int(context)] = [int(digit) << 22 for digit in row]
    with pytest.warns(UserWarning, match="at least 5"):
        quantizer = ResidualFSQ([3], groups=1, stages=2)
    return StaticTables(frequencies, quantizer)


def example_digits() -> dict[tuple[int, int, int], tuple[bytes, list[int]]]:
    """Messages and digits by stream, first frame and layer."""
    return {
        (int(stream), int(frame), int(layer)): (
            b"" if message == "none" else bytes.fromhex(message.strip("`")),
            [int(digit) for digit in digits.split()],
        )
        for stream, frame, layer, message, digits in rows("a digit is a token.\n\n")
    }


def test_every_byte_of_the_example_is_explained() -> None:
    data, at = dump(), 0
    assert len(data) == int(re.findall(r"These are its (\d+) bytes", PAGE)[0])
    for place, cell, _ in rows(PAGE.split("```text\nworked example\n")[1].split("| byte")[0]):
        assert int(place) == at
        piece = bytes.fromhex(cell.strip("`"))
        assert data[at : at + len(piece)] == piece
        at += len(piece)
    assert at == len(data)


def test_every_byte_of_the_examples_fields_is_explained() -> None:
    told = b"".join(bytes.fromhex(row[0].strip("`")) for row in rows("the fields are 54 bytes:\n\n"))
    assert told == example_header().fields()
    size, at = number(dump(), 5)
    assert inflate(dump()[at : at + size], 1000, VERSION) == told


def test_the_example_is_what_the_code_writes_and_reads() -> None:
    header, tables, digits = example_header(), example_tables(), example_digits()
    reader = Reader(io.BytesIO(dump()))
    assert reader.header == header
    packets = list(reader)
    assert reader.complete
    assert [(p.stream, p.start, p.frames, p.tail, p.stereo) for p in packets] == [
        (0, 0, 4, 0, None), (1, 0, 4, 2, None), (0, 4, 3, 0, 1), (1, 4, 3, 1, 1)
    ]  # fmt: skip
    for packet in packets:
        tokens = np.zeros((packet.frames, 2), np.int32)
        for layer in (0, 1):
            message, told = digits[packet.stream, packet.start, layer]
            assert packet.layers[layer] == message
            tokens[: len(told), layer] = told
        assert tables.encode_layers(tokens, 1, packet.tail) == list(packet.layers)
        back = tables.decode_layers(packet.layers, packet.frames, 2, 1, packet.tail)
        whole = packet.frames - packet.tail
        assert np.array_equal(back[:, 0], tokens[:, 0])
        assert np.array_equal(back[:whole, 1], tokens[:whole, 1])
    file = io.BytesIO()
    writer = writer_module.Writer(file, header)
    for packet in packets:
        writer.write(packet)
    writer.finish()
    # Another zlib may deflate the same fields to other bytes.
    assert file.getvalue()[len(header.pack()) :] == dump()[packets[0].offset :]


def test_the_plain_reader_decodes_the_example_to_its_digits() -> None:
    file = plain_reader.read(dump())
    tables, digits = example_tables().frequencies.tolist(), example_digits()
    for packet in file.packets:
        stages = plain_reader.tokens(file.header, packet, tables, [3], 1)
        assert stages == [digits[packet.stream, packet.start, layer][1] for layer in (0, 1)]


def test_the_steps_of_the_example_are_those_of_the_decoder() -> None:
    row = example_tables().frequencies[0, 0, 0].tolist()
    decoder = plain_reader.RangeDecoder(example_digits()[0, 0, 0][0])
    steps = rows("these are the states before each digit:\n\n")
    assert len(steps) == 4
    for _, span, scale, offset, target, digit in ([cell.strip("`") for cell in step] for step in steps):
        assert (decoder.range, decoder.offset) == (int(span, 16), int(offset, 16))
        assert decoder.range >> 24 == int(scale, 16)
        assert decoder.offset // (decoder.range >> 24) == int(target, 16)
        assert decoder.digit(row) == int(digit)


def test_flags_of_positions_are_coded_as_the_page_says() -> None:
    """Flags by the page's formula, in plain integers, under the range coder: the message that the code writes."""
    height, width = 5, 7
    masks = np.random.default_rng(1).random((4, height, width)) < 0.4
    encoder = range_coder.ReferenceEncoder()
    skips = skip_module.Skips(height, width)
    for mask in masks:
        skips.encode(encoder, mask)
    decoder = plain_reader.RangeDecoder(encoder.finish())
    counts = [[1, 1] for _ in range(32)]
    before = [[0] * width for _ in range(height)]

    def flag(flags: list[list[int]], y: int, x: int) -> int:
        return flags[y][x] if 0 <= y < len(flags) and 0 <= x < width else 0

    for mask in masks:
        found: list[list[int]] = []
        for y in range(height):
            contexts, flags = [], []
            for x in range(width):
                above = sum(flag(found, y - 1, x + side) for side in (-1, 0, 1))
                beside = flag(before, y, x - 1) + flag(before, y, x + 1) + flag(before, y + 1, x)
                contexts.append(8 * above + 4 * flag(before, y, x) + beside)
                n0, n1 = counts[contexts[-1]]
                s = 1 + (2 * n1 - 1) * (2**24 - 2) // (2 * n0 + 2 * n1 - 2)
                flags.append(decoder.digit([2**24 - s, s]))
            for context, value in zip(contexts, flags, strict=True):
                counts[context][value] += 1
            found.append(flags)
        assert found == mask.astype(int).tolist()
        before = found


def test_live_packets_taken_apart_by_the_page(codec: NeuralAudioCodec, speech: np.ndarray) -> None:
    first = {text: int(byte, 16) for byte, text in re.findall(r"\| `(F.)` \| (independent|predicted):", PAGE)}
    packets = fsqcodec.LiveEncoder(codec, 2, independent_every=3).push(speech[:9600])
    assert len(packets) > 6
    for i, packet in enumerate(packets):
        assert packet[0] == first["independent" if i % 3 == 0 else "predicted"]
        start, at = number(packet, 1)
        shape, _ = number(packet, at)
        assert start == 2 * i
        assert divmod(shape, codec.stages) == (2 - 1, codec.stages - 1)
        assert binascii.crc_hqx(packet[:-2], 0xFFFF).to_bytes(2, "big") == packet[-2:]
