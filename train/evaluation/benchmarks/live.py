"""What `fsqcodec bench live` times, and `bench keys` counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fsqcodec.audio.codec import NeuralAudioCodec

_PACKETS = 150
"""Packets that are timed, after a few that are not."""
_BATCH = 16
"""Streams of a batch."""
_KEYS = {1: "all keys", 5: "every 5th", 25: "every 25th", 1 << 30: "the first"}
"""Packets from key to key."""


def packet_times(
    codec: NeuralAudioCodec, engine: str, clip: NDArray[np.float32], milliseconds: int
) -> list[dict[str, Any]]:
    """Milliseconds of a packet, encoder and decoder with prior and coder, for one stream and for each of a batch."""
    from fsqcodec import BatchDecoder, BatchEncoder, LiveDecoder, LiveEncoder

    frames = max(1, round(milliseconds * codec.frame_rate / 1000))
    block = frames * codec.model.config.frame
    parts = np.resize(clip, (_PACKETS + 5) * block).reshape(-1, block)
    sender, receiver = LiveEncoder(codec, frames), LiveDecoder(codec)
    packets: list[list[bytes]] = []
    encoding = _each(parts, lambda part: packets.append(sender.push(part)))
    decoding = _each(packets, lambda found: [receiver.push(packet) for packet in found])
    rows = [_row(engine, milliseconds, 1, encoding, decoding)]
    many, all_of = BatchEncoder(codec, _BATCH, frames), BatchDecoder(codec, _BATCH, frames)
    batches: list[list[bytes]] = []
    blocks = [np.stack([np.roll(part, 37 * i) for i in range(_BATCH)]) for part in parts]
    encoding = _each(blocks, lambda block: batches.append(many.push(block)))
    decoding = _each(batches, all_of.push)
    return [*rows, _row(engine, milliseconds, _BATCH, encoding / _BATCH, decoding / _BATCH)]


def key_bitrates(
    codec: NeuralAudioCodec, clips: list[NDArray[np.float32]], milliseconds: int
) -> dict[str, float]:
    """Kilobits a second of packets with their heads, when every one is a key, every 5th and so on, and only the first."""
    found = {
        name: _kbps(codec, clips, milliseconds, independent_every=every) for every, name in _KEYS.items()
    }
    return {"packet_ms": float(milliseconds), **found}


def paced_bitrates(codec: NeuralAudioCodec, clip: NDArray[np.float32], milliseconds: int) -> dict[str, float]:
    """Kilobits a second that a clip takes where 6, 3 and 2 are asked for, all packets keys and only the first."""
    found = {"packet_ms": float(milliseconds)}
    for every in (min(_KEYS), max(_KEYS)):
        for kbps in (6, 3, 2):
            taken = _kbps(codec, [clip], milliseconds, independent_every=every, kbps=kbps)
            found[f"{kbps}, {_KEYS[every]}"] = taken
    return found


def _kbps(
    codec: NeuralAudioCodec, clips: list[NDArray[np.float32]], milliseconds: int, **settings: Any
) -> float:
    from fsqcodec import LiveEncoder

    frames, spent = max(1, round(milliseconds * codec.frame_rate / 1000)), 0
    for clip in clips:
        sender = LiveEncoder(codec, frames, **settings)
        spent += sum(map(len, sender.push(clip) + sender.flush()))
    return spent * 8 / 1000 / sum(map(len, clips)) * codec.sample_rate


def _each(items: Any, work: Callable[[Any], Any]) -> NDArray[np.float64]:
    """Milliseconds of the work on every item but the first few."""
    found = []
    for item in items:
        begin = time.perf_counter()
        work(item)
        found.append(1000 * (time.perf_counter() - begin))
    return np.array(found[5:])


def _row(
    engine: str, milliseconds: int, streams: int, encoding: NDArray[np.float64], decoding: NDArray[np.float64]
) -> dict[str, Any]:
    return {
        "engine": engine, "packet_ms": milliseconds, "streams": streams,
        "encode_ms_p50": float(np.percentile(encoding, 50)), "encode_ms_p99": float(np.percentile(encoding, 99)),
        "decode_ms_p50": float(np.percentile(decoding, 50)), "decode_ms_p99": float(np.percentile(decoding, 99)),
        "real_time": milliseconds / float(encoding.mean() + decoding.mean()),
    }  # fmt: skip
