"""What the learned prior of a model for sound saves, and how fast files decode with it."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from typing import cast

import numpy as np
from fsqcodec.audio.chunked import StreamDecoder
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.header import AudioHeader
from fsqcodec.audio.tokens import Encoded
from fsqcodec.bitstream.reader import Reader
from fsqcodec.bitstream.writer import PACKET_SECONDS

from .rows import Row

PACKETS = (0.25, 0.5, 1.0, 2.0, PACKET_SECONDS)
"""Seconds of the packets whose bits are counted."""
LIVE = (0.1, 0.5, 2.0)
"""Seconds of the packets of live streams."""


def by_rate(codec: NeuralAudioCodec, clips: Sequence[Encoded]) -> list[Row]:
    """Bits of all clips at full, half and quarter rate: fixed-length, by tables, by prior, in messages."""
    assert codec.prior
    prior, tables, frames = np.zeros(codec.stages), np.zeros(codec.stages), 0
    for clip in clips:
        for packet in clip.split(codec.bitstream.packet_frames()):
            prior += codec.prior.bits(packet.tokens).sum(0)
            tables += codec.tables.bits(packet.tokens.astype(np.int32)).sum(0)
            frames += len(packet.tokens)
    rows = []
    for name, part in (("full", 1), ("half", 2), ("quarter", 4)):
        stages = codec.stages // part
        fixed = codec.model.quantizer.bits * stages * frames
        cut = [codec.limit(clip, stages=stages) for clip in clips]
        layers = [
            message
            for clip in cut
            for packet in clip.split(codec.bitstream.packet_frames())
            for message in codec.prior.encode_layers(packet.tokens, codec.prior.stages_per_layer)
        ]
        # The share of a layer that is cut into counts with its real message, so compare like with like.
        ideal, spent = prior[:stages].sum(), 8 * sum(map(len, layers))
        rows.append(
            {
                "rate": name,
                "stages": stages,
                "fixed_kbps": fixed / frames * codec.frame_rate / 1000,
                "prior_kbps": ideal / frames * codec.frame_rate / 1000,
                "saved_%": 100 * (1 - ideal / fixed),
                "saved_against_tables_%": 100 * (1 - ideal / tables[:stages].sum()),
                "coder_loss_%": 100 * (spent / ideal - 1),
            }
        )
    return rows


def by_packet(codec: NeuralAudioCodec, clips: Sequence[Encoded]) -> list[Row]:
    """Kilobits a second of whole files at several packet lengths."""
    seconds = sum(clip.seconds for clip in clips)
    rows = []
    for length in PACKETS:
        size = sum(len(codec.to_bytes(clip, length)) for clip in clips)
        rows.append({"packet_seconds": length, "kbps": size * 8 / 1000 / seconds})
    return rows


def decoding_speed(codec: NeuralAudioCodec, clips: Sequence[Encoded], minutes: float) -> list[Row]:
    """Times real time of a long file, and of a minute decoded packet by packet with short blocks."""
    tokens = np.concatenate([clip.tokens for clip in clips], axis=2)[0].T

    def file(length: float, packet: float) -> tuple[float, Reader]:
        """Seconds of a file of `length` minutes in packets of `packet` seconds, and the file."""
        frames = round(length * 60 * codec.frame_rate)
        samples = frames * codec.networks.frame - codec.networks.lag
        whole = Encoded(np.resize(tokens, (frames, codec.stages)).T[None], codec.sample_rate, samples)
        return whole.seconds, Reader(io.BytesIO(codec.to_bytes(whole, packet)), "benchmark")

    seconds, reader = file(minutes, PACKET_SECONDS)
    started = time.perf_counter()
    for _ in codec.decode_blocks(codec.bitstream.read(reader), cast(AudioHeader, reader.header)):
        pass
    speed = seconds / (time.perf_counter() - started)
    rows: list[Row] = [
        {"what": "file", "minutes": minutes, "packet_seconds": PACKET_SECONDS, "times_real_time": speed}
    ]
    for packet in LIVE:
        seconds, reader = file(1.0, packet)
        decoder = StreamDecoder(codec.networks, codec.bitstream.packet_frames(packet))
        waits = []
        mark = time.perf_counter()
        for arrived in codec.bitstream.read(reader):
            decoder.push(arrived.tokens)
            waits.append(time.perf_counter() - mark)
            mark = time.perf_counter()
        rows.append(
            {
                "what": "live",
                "minutes": 1.0,
                "packet_seconds": packet,
                "times_real_time": seconds / sum(waits),
                "median_ms": 1000 * float(np.median(waits)),
                "p99_ms": 1000 * float(np.quantile(waits, 0.99)),
            }
        )
    return rows
