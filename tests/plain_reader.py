"""A reader of `.fsq` files of version 4, from `docs/format.md` alone: plain Python, no other package, no line of ours.

It takes a file apart into header, packets and index, and decodes messages coded with static tables to tokens. Messages
coded with a prior stay messages. Anything that the page says a decoder must refuse raises `ValueError`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

MAGIC, VERSION = b"FSQC", 4
PLAIN, TAILED, TYPED, INDEX, SKIPPABLE = 0xF5, 0xF6, 0xF4, 0xF1, range(0xE0, 0xF0)
MOST_FIELDS, MOST_NUMBER, MOST_PACKET_FIELDS = 1 << 18, 1 << 20, 1 << 10
MOST_START, MOST_FRAMES, MOST_INDEX, TRAILER = 1 << 48, 2048, 1 << 24, 4
SOUND, PICTURES = 0, 1
DICTIONARY = bytes.fromhex("""
2264617465223a2222616c62756d223a2222617274697374223a2222636f6d6d656e74223a22226c616e677561676522
3a227b227469746c65223a2223040190bf05240219012b35230301e807240219012b3523040190bf0524021e0179030c
206c7a230301807824021e0179030c206c7a2305e907b0ea012405b0ea01e90779030c206c7a23030180642402190179
030c206c7a2302011e24021e0179030c206c7a230201192402190127010179030c016c7a010103010105067669737561
6c070cb145e80089e6aa7131f6064821042303c03e02250101790403fa012304a2ac0102250101790403fa012303807d
02250101790403fa012304c0bb0102250101790403fa012304c4d80202250101790403fa01230480f702022501017904
03fa012303c03e01790403fa012304a2ac0101790403fa012303807d01790403fa012304c0bb0101790403fa012304c4
d80201790403fa01030100050a7370656563682d32346b070c4c16363080577757ca0a2c822105e003c0bb01230480f7
0201790403fa01187a03
""")

Known = dict[int, tuple[str, Any]]
"""Names of fields by number, and limits: of the numbers of a value, or of its bytes."""
EVERY: Known = {
    1: ("kind", (127,)), 2: ("model", 256), 3: ("hashes", 12), 60: ("stages", (256, 2048, 256)),
    61: ("length", (1 << 48,)), 62: ("tags", MOST_FIELDS),
}  # fmt: skip
OF_SOUND: Known = {16: ("frame", (1 << 20, 1 << 20)), 17: ("original", (1 << 20, 64)), 18: ("stereo", (1,))}
OF_PICTURES: Known = {
    16: ("size", (1 << 14, 1 << 14)), 17: ("tick", (1 << 40, 1 << 40)), 18: ("rate", (1 << 40, 1 << 40)),
    19: ("flags", (7,)), 20: ("colours", (15, 1)), 21: ("sound", MOST_FIELDS), 22: ("passthrough", MOST_FIELDS),
}  # fmt: skip
OF_PACKET: Known = {1: ("tail", (MOST_FRAMES,)), 2: ("stereo", (1,))}
DEFAULTS = {
    "length": [None], "tags": b"", "stereo": [0], "rate": [25, 1], "flags": [0], "colours": [0, 0], "sound": b"",
    "passthrough": b"",
}  # fmt: skip


def need(condition: object, what: str) -> None:
    """Refuse unless it holds."""
    if not condition:
        raise ValueError(what)


class Bytes:
    """Bytes that are read from the beginning on."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def more(self) -> bool:
        return self.at < len(self.data)

    def take(self, size: int) -> bytes:
        need(size <= len(self.data) - self.at, "ends early")
        self.at += size
        return self.data[self.at - size : self.at]

    def varint(self, limit: int) -> int:
        value = 0
        for place in range(9):
            byte = self.take(1)[0]
            value += (byte & 127) << 7 * place
            if byte < 128:
                need(value <= limit, f"{value} is beyond {limit}")
                return value
        raise ValueError("a number of more than nine bytes")

    def sized(self, limit: int) -> bytes:
        return self.take(self.varint(limit))

    def check(self, start: int) -> None:
        """A crc of all bytes from `start` on."""
        found = zlib.crc32(self.data[start : self.at])
        need(self.take(4) == found.to_bytes(4, "big"), "wrong crc")


def read_fields(data: bytes, known: Known) -> dict[str, Any]:
    """Values of typed fields by name: a list of numbers, or bytes."""
    values, last, source = dict[str, Any](), -1, Bytes(data)
    while source.more():
        number, critical = divmod(source.varint(2 * MOST_NUMBER + 1), 2)
        need(number > last, "fields out of order")
        last, value = number, source.sized(MOST_FIELDS)
        if number not in known:
            need(not critical, f"field {number} must be known")
            continue
        (name, limits), numbers = known[number], Bytes(value)
        numeric = isinstance(limits, tuple)
        values[name] = [numbers.varint(limit) for limit in limits] if numeric else value
        need(not numbers.more() if numeric else len(value) <= limits, f"{name} is too long")
    return values


def read_json(data: bytes) -> dict[str, Any]:
    """A JSON object; an empty one of no bytes."""
    value = json.loads(data.decode("utf-8")) if data else {}
    need(isinstance(value, dict), "no JSON object")
    return dict(value)


def read_header(data: bytes) -> dict[str, Any]:
    """What a header says, with defaults; `sound` of a video is a header of its own."""
    start = Bytes(data)
    need(start.take(2) == bytes([3, 1]), "does not begin with its kind")
    kind = start.varint(1)
    known = EVERY | (OF_SOUND if kind == SOUND else OF_PICTURES)
    header = {name: DEFAULTS.get(name) for name, _ in known.values()} | read_fields(data, known)
    need(None not in header.values() and len(header["hashes"]) == 12, "a field is missing, or short")
    need(0 not in header["stages"][:2], "layers or packets of nothing")
    for name in {"kind", "length", "stereo", "flags"} & set(header):
        (header[name],) = header[name]
    header["model"], header["tags"] = header["model"].decode("utf-8"), read_json(header["tags"])
    need(all(isinstance(value, str) for value in header["tags"].values()), "tags are not text")
    if kind == SOUND:
        need(0 not in header["frame"] + header["original"], "a rate of 0")
        need(not header["stereo"] or header["original"][1] == 2, "mid and side without two channels")
        return header
    need(0 not in header["size"] + header["tick"] + header["rate"], "a size or rate of 0")
    need(prod(header["size"]) <= 1 << 26 and header["stages"][1] <= 256, "too many pixels or frames")
    need(header["colours"][0] in (0, 1, 4, 5, 6, 7, 9), "a colour matrix that is not known")
    header["passthrough"] = read_json(header["passthrough"])
    header["sound"] = read_header(header["sound"]) if header["sound"] else None
    need(not header["sound"] or header["sound"]["kind"] == SOUND, "sound of another kind")
    return header


class StreamLimits(NamedTuple):
    """What packets of a stream may claim."""

    layers: int
    frames: int
    size: int
    stereo: bool


def stream_limits(header: dict[str, Any]) -> list[StreamLimits]:
    """Those of every stream of a file."""
    per_layer, frames, stages = header["stages"]
    layers, size = -(-stages // per_layer), 1 << 16
    if header["kind"] == SOUND:
        channels = header["original"][1]
        return [StreamLimits(layers, min(MOST_FRAMES, 2 * frames), size, channels == 2)] * channels
    size = 1 << 27
    limits = [StreamLimits(1 + layers, 2 * frames, size, False)]
    if header["sound"]:
        return limits + [of._replace(size=size) for of in stream_limits(header["sound"])]
    return limits + [StreamLimits(2, 1, size, False)] * bool(header["passthrough"])


class Packet(NamedTuple):
    """A stretch of one stream."""

    stream: int
    start: int
    frames: int
    tail: int
    stereo: int | None
    layers: tuple[bytes, ...]
    offset: int


class File(NamedTuple):
    """All that a file says."""

    header: dict[str, Any]
    packets: list[Packet]
    entries: list[tuple[int, int]] | None
    """Start and byte of packets of stream 0; None where there is no index."""
    whole: bool


def read_packet(kind: int, data: bytes, offset: int, limits: Sequence[StreamLimits]) -> Packet:
    """A packet of its body."""
    body = Bytes(data)
    stream = body.varint(len(limits) - 1)
    own = limits[stream]
    start, frames = body.varint(MOST_START), body.varint(own.frames)
    tail = body.varint(frames) if kind == TAILED else 0
    need(kind != TAILED or tail, "a tail of nothing")
    count, stereo = body.varint(own.layers), None
    need(frames and count, "a packet of nothing")
    if kind == TYPED:
        fields = read_fields(body.sized(MOST_PACKET_FIELDS), OF_PACKET)
        (tail,), (stereo,) = fields.get("tail", [0]), fields.get("stereo", [None])
        need(tail <= frames, "a tail longer than its packet")
        need(not stereo or own.stereo, "mid and side without two channels")
    layers = [body.take(size) for size in [body.varint(own.size) for _ in range(count - 1)]]
    return Packet(stream, start, frames, tail, stereo, (*layers, data[body.at :]), offset)


def read_index(data: bytes) -> list[tuple[int, int]]:
    """Starts and bytes of packets of an index's entries."""
    entries, start, offset, source = [], 0, 0, Bytes(data)
    for _ in range(source.varint(len(data))):
        start, offset = start + source.varint(MOST_START), offset + source.varint(MOST_START)
        entries.append((start, offset))
    return entries


def whole(header: dict[str, Any], ends: list[int]) -> bool:
    """Whether streams that end with these frames are all that the header tells of."""
    if header["length"] is None or header["kind"] == PICTURES:
        return header["length"] is not None and len(ends) == 1 and ends[0] >= header["length"]
    (samples, model_rate), (rate, _) = header["frame"], header["original"]
    return all(end * samples * rate >= header["length"] * model_rate for end in ends)


def read(data: bytes) -> File:
    """Take a file apart."""
    file = Bytes(data)
    need(file.take(5) == MAGIC + bytes([VERSION]), "no .fsq file of this version")
    deflated = file.sized(MOST_FIELDS)
    file.check(0)
    inflater = zlib.decompressobj(-15, DICTIONARY)
    try:
        fields = inflater.decompress(deflated, MOST_FIELDS)
        need(inflater.eof and not inflater.unused_data, "fields that do not end with the header")
        header = read_header(fields)
    except (zlib.error, RecursionError) as error:
        raise ValueError(f"header: {error}") from None
    limits = stream_limits(header)
    packets, ends, most = list[Packet](), [0] * len(limits), max(of.size for of in limits)
    while file.more():
        offset, kind = file.at, file.take(1)[0]
        need(kind in (PLAIN, TAILED, TYPED, INDEX) or kind in SKIPPABLE, f"{kind:#x} must be known")
        body = file.sized(MOST_INDEX if kind == INDEX else most)
        file.check(offset)
        if kind == INDEX:
            need(len(data) - file.at <= TRAILER, "bytes behind the end")
            return File(header, packets, read_index(body), True)
        if kind not in SKIPPABLE:
            packet = read_packet(kind, body, offset, limits)
            need(packet.start == ends[packet.stream], "packets are missing, or go back")
            ends[packet.stream] += packet.frames
            packets.append(packet)
    return File(header, packets, None, whole(header, ends))


class RangeDecoder:
    """Reads digits of a message."""

    def __init__(self, message: bytes) -> None:
        self.rest = iter(message)
        self.offset, self.range = 0, (1 << 64) - 1
        self.shift(8)

    def shift(self, count: int) -> None:
        for _ in range(count):
            self.offset = self.offset << 8 | next(self.rest, 0)

    def digit(self, row: Sequence[int]) -> int:
        scale = self.range >> 24
        target, digit, cumulative = self.offset // scale, 0, 0
        need(target < 1 << 24, "no encoder wrote this message")
        while target >= cumulative + row[digit]:
            cumulative, digit = cumulative + row[digit], digit + 1
        self.offset, self.range = self.offset - scale * cumulative, scale * row[digit]
        if self.range < 1 << 32:
            self.shift(4)
            self.range <<= 32
        return digit


def tokens(
    header: dict[str, Any], packet: Packet, tables: Any, levels: Sequence[int], groups: int
) -> list[list[int]]:
    """Tokens of a packet of sound, stage by stage, each of its frames; the last stage's end with the tail.

    `tables[stage][channel][context]` are rows; they, a group's `levels` and the number of groups are the model's.
    """
    per_layer, _, stages = header["stages"]
    have = min(stages, per_layer * len(packet.layers))
    found: list[list[list[int]]] = []
    for first, message in zip(range(0, have, per_layer), packet.layers, strict=True):
        decoder = RangeDecoder(message)
        for stage in range(first, min(first + per_layer, have)):
            found.append([])
            for frame in range(packet.frames - (packet.tail if stage == have - 1 else 0)):
                contexts = found[stage - groups][frame] if stage >= groups else [0] * len(levels)
                row = [decoder.digit(tables[stage][c][context]) for c, context in enumerate(contexts)]
                need(
                    all(digit < most for digit, most in zip(row, levels, strict=True)), "a digit of no level"
                )
                found[-1].append(row)
    radix = [prod(levels[:c]) for c in range(len(levels))]
    return [[sum(d * r for d, r in zip(row, radix, strict=True)) for row in frames] for frames in found]
