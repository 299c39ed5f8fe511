"""Time of live packets, and their bits by how many of them are independent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from fsqcodec import AudioCodec, BatchDecoder, BatchEncoder, LiveDecoder, LiveEncoder
from numpy.typing import NDArray

from .rows import Row, Signal

_PACKETS, _WARMUP = 150, 5
"""Packets that are timed, after a few that are not."""
_BATCH = 16
"""Streams of a batch."""
_INDEPENDENT = {1: "all", 5: "every 5th", 25: "every 25th", 1 << 30: "the first"}
"""Packets from one that decodes by itself to the next."""
_ASKED = (6, 3, 2)
"""kbit/s."""


def packet_times(codec: AudioCodec, engine: str, clip: Signal, milliseconds: int) -> list[Row]:
    """Milliseconds of a packet, prior and coder included, for one stream and for each of a batch."""
    frames = _frames(codec, milliseconds)
    block = frames * codec.networks.frame
    parts = np.resize(clip, (_PACKETS + _WARMUP) * block).reshape(-1, block)
    sender, receiver = LiveEncoder(codec, frames), LiveDecoder(codec)
    packets: list[list[bytes]] = []
    encoding = _each(parts, lambda part: packets.append(sender.push(part)))
    decoding = _each(packets, lambda some: [receiver.push(packet) for packet in some])
    rows = [_row(engine, milliseconds, 1, encoding, decoding)]
    senders, receivers = BatchEncoder(codec, _BATCH, frames), BatchDecoder(codec, _BATCH, frames)
    batches: list[list[bytes]] = []
    blocks = [np.stack([np.roll(part, 37 * i) for i in range(_BATCH)]) for part in parts]
    encoding = _each(blocks, lambda block: batches.append(senders.push(block)))
    decoding = _each(batches, receivers.push)
    return [*rows, _row(engine, milliseconds, _BATCH, encoding / _BATCH, decoding / _BATCH)]


def by_independent(codec: AudioCodec, clips: Sequence[Signal], milliseconds: int) -> Row:
    """Kilobits a second, headers included, when all packets are independent … only the first."""
    rates = {
        name: _kbps(codec, clips, milliseconds, independent_every=every)
        for every, name in _INDEPENDENT.items()
    }
    return {"packet_ms": float(milliseconds), **rates}


def asked_and_taken(codec: AudioCodec, clip: Signal, milliseconds: int) -> Row:
    """Kilobits a second that a clip takes where 6, 3 and 2 are asked for, all or one packet independent."""
    rates = {
        f"{kbps}, {_INDEPENDENT[every]}": _kbps(
            codec, [clip], milliseconds, independent_every=every, kbps=kbps
        )
        for every in (min(_INDEPENDENT), max(_INDEPENDENT))
        for kbps in _ASKED
    }
    return {"packet_ms": float(milliseconds), **rates}


def _frames(codec: AudioCodec, milliseconds: int) -> int:
    return max(1, round(milliseconds * codec.frame_rate / 1000))


def _kbps(codec: AudioCodec, clips: Sequence[Signal], milliseconds: int, **settings: Any) -> float:
    spent = 0
    for clip in clips:
        sender = LiveEncoder(codec, _frames(codec, milliseconds), **settings)
        spent += sum(map(len, sender.push(clip) + sender.flush()))
    return spent * 8 / 1000 / sum(map(len, clips)) * codec.sample_rate


def _each(items: Iterable[Any], work: Callable[[Any], Any]) -> NDArray[np.float64]:
    """Milliseconds of the work on every item but the first few."""
    times = []
    for item in items:
        begin = time.perf_counter()
        work(item)
        times.append(1000 * (time.perf_counter() - begin))
    return np.array(times[_WARMUP:])


def _row(
    engine: str, milliseconds: int, streams: int, encoding: NDArray[np.float64], decoding: NDArray[np.float64]
) -> Row:
    return {
        "engine": engine,
        "packet_ms": milliseconds,
        "streams": streams,
        "encode_ms_p50": float(np.percentile(encoding, 50)),
        "encode_ms_p99": float(np.percentile(encoding, 99)),
        "decode_ms_p50": float(np.percentile(decoding, 50)),
        "decode_ms_p99": float(np.percentile(decoding, 99)),
        "real_time": milliseconds / float(encoding.mean() + decoding.mean()),
    }
