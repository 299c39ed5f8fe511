"""`docs/format.md` and the code tell the same bytes: files are made and taken apart here by the page alone."""

from __future__ import annotations

import binascii
import io
import re
import zlib
from fractions import Fraction

import fsqcodec
import numpy as np
import pytest
from fsqcodec.audio.tokens import Encoded
from fsqcodec.bitstream.header_dictionary import deflate, inflate
from fsqcodec.bitstream.reader import Reader
from helpers import ROOT

PAGE = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
MAGIC = bytes.fromhex(re.findall(r"`([0-9A-F ]+)` \| magic", PAGE)[0])
VERSION = int(re.findall(r"`(\d\d)` \| version", PAGE)[0], 16)
DICTIONARY = bytes.fromhex("".join(re.findall(r"^[0-9a-f]{64,}$", PAGE, re.MULTILINE)))
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


def head(body: bytes, version: int = VERSION) -> bytes:
    """A header of its fields."""
    if version >= 3:
        deflater = zlib.compressobj(9, wbits=-15, zdict=DICTIONARY)
        body = deflater.compress(body) + deflater.flush()
    data = MAGIC + bytes([version]) + varint(len(body)) + body
    return data + zlib.crc32(data).to_bytes(4, "big")


def test_the_dictionary_is_that_of_the_page() -> None:
    assert len(DICTIONARY) == int(re.findall(r"dictionary of (\d+) bytes", PAGE)[0])
    inflater = zlib.decompressobj(-15, DICTIONARY)
    assert inflater.decompress(deflate(DICTIONARY)) == DICTIONARY  # all of it is one reference into it
    deflater = zlib.compressobj(9, wbits=-15, zdict=DICTIONARY)
    assert inflate(deflater.compress(DICTIONARY) + deflater.flush(), len(DICTIONARY)) == DICTIONARY


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_headers_made_by_the_page_are_read(version: int) -> None:
    sound = Reader(io.BytesIO(head(fields("Sound (kind 0):", SOUND), version))).header
    assert (sound.model, sound.model_hash, sound.table_hash) == ("tiny", b"modelhsh", b"tabl")
    assert (sound.frame_samples, sound.frame_rate, sound.sample_rate, sound.channels) == (
        480,
        24000,
        44100,
        2,
    )
    assert (sound.samples, sound.stages, sound.stages_per_layer, sound.packet_frames) == (176400, 7, 3, 50)
    assert (sound.mid_side, sound.tags) == (False, {"title": "Größe"})
    assert sound.pack() == head(fields("Sound (kind 0):", SOUND))
    video = Reader(io.BytesIO(head(fields("Pictures and video (kind 1):", VIDEO), version))).header
    assert (video.width, video.height, video.tick, video.frame_rate) == (80, 64, Fraction(1, 600), 25)
    assert (video.frames, video.stages, video.stages_per_layer, video.packet_frames) == (10, 24, 12, 32)
    assert (video.still, video.grey, video.transparent) == (False, True, False)
    assert (video.colours.matrix, video.colours.full) == (6, True)
    assert video.pack() == head(fields("Pictures and video (kind 1):", VIDEO))


def test_a_newer_version_and_another_magic_are_refused() -> None:
    good = head(fields("Sound (kind 0):", SOUND))
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
def test_limits_are_those_of_the_page(name: str) -> None:
    accepted = Reader(io.BytesIO(head(fields("Sound (kind 0):", {**SOUND, name: LIMITS[name]})))).header
    assert accepted.model == "tiny"
    with pytest.raises(fsqcodec.BitstreamError):
        Reader(io.BytesIO(head(fields("Sound (kind 0):", {**SOUND, name: LIMITS[name] + 1}))))


def test_all_numbers_of_the_sound_header_have_a_limit() -> None:
    assert set(LIMITS) == {
        name for name, value in SOUND.items() if isinstance(value, int) and name not in ("kind", "mid_side")
    }


def markers() -> dict[str, int]:
    """First bytes of packets and index, and the last of a file."""
    found = dict.fromkeys(("packet", "truncated", "index", "end"), 0)
    found["packet"], found["truncated"] = (
        int(byte, 16) for byte in re.findall(r"\| packet \| `(..)` or `(..)`", PAGE)[0]
    )
    found["index"] = int(re.findall(r"\| index \| `(..)`", PAGE)[0], 16)
    found["end"] = int(re.findall(r"index_size u24, `(..)`", PAGE)[0], 16)
    return found


def test_a_file_taken_apart_by_the_page(codec: fsqcodec.Codec, encoded: Encoded) -> None:
    data = codec.to_bytes(codec.limit(encoded, kbps=3), packet_seconds=0.5)
    mark = markers()
    assert data[:5] == MAGIC + bytes([VERSION])

    def block(at: int) -> tuple[int, bytes, int]:
        """First byte, body and end of a packet or of the index; its checksum is right."""
        size, begin = number(data, at + 1)
        end = begin + size
        assert zlib.crc32(data[at:end]).to_bytes(4, "big") == data[end : end + 4]
        return data[at], data[begin:end], end + 4

    size, at = number(data, 5)  # the header's length stands behind its version
    at += size + 4
    assert zlib.crc32(data[: at - 4]).to_bytes(4, "big") == data[at - 4 : at]
    starts, next_frame, tails = [], 0, 0
    while data[at] != mark["index"]:
        starts.append(at)
        kind, body, at = block(at)
        stream, place = number(body, 0)
        start, place = number(body, place)
        frames, place = number(body, place)
        if kind == mark["truncated"]:
            tail, place = number(body, place)
            assert 1 <= tail <= frames
            tails += tail
        else:
            assert kind == mark["packet"]
        layers, place = number(body, place)
        lengths = []
        for _ in range(layers - 1):
            length, place = number(body, place)
            lengths.append(length)
        assert stream == 0
        assert start == next_frame
        assert place + sum(lengths) < len(body)
        next_frame += frames
    assert next_frame == encoded.tokens.shape[2]
    assert tails > 0
    index = at
    _, body, at = block(at)
    count, place = number(body, 0)
    assert count == len(starts)
    offset = 0
    for expected in starts:
        _, place = number(body, place)
        step, place = number(body, place)
        offset += step
        assert offset == expected
    assert place == len(body)
    assert data[at:] == (at - index).to_bytes(3, "big") + bytes([mark["end"]])


def test_live_packets_taken_apart_by_the_page(codec: fsqcodec.Codec, speech: np.ndarray) -> None:
    first = {text: int(byte, 16) for byte, text in re.findall(r"\| `(F.)` \| (independent|predicted):", PAGE)}
    packets = fsqcodec.Encoder(codec, 2, key_every=3).push(speech[:9600])
    assert len(packets) > 6
    for i, packet in enumerate(packets):
        assert packet[0] == first["independent" if i % 3 == 0 else "predicted"]
        start, at = number(packet, 1)
        shape, _ = number(packet, at)
        assert start == 2 * i
        assert divmod(shape, codec.stages) == (2 - 1, codec.stages - 1)
        assert binascii.crc_hqx(packet[:-2], 0xFFFF).to_bytes(2, "big") == packet[-2:]
