"""What is compared: our models through real files, and the codecs of `peers`.

A codec is named `NAME@SETTING`, such as `speech-24k@6`, `opus@12`, `jpeg@75`. Every round trip gives the
decoded clip and the bytes spent: of the whole file for ours, of the coded packets for peers in containers.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.bitstream.reader import Reader
from fsqcodec.bitstream.writer import Writer
from fsqcodec.checkpoints import load_audio, load_visual
from fsqcodec.media.video_reader import Frame
from fsqcodec.visual.codec import NeuralVisualCodec
from numpy.typing import NDArray

from .clips import Decoded, Original
from .peers import PEERS, timed

SOUND_LADDER: tuple[float, ...] = (1.5, 3.0, 6.0, 64.0)
PICTURE_LADDER: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
"""kbit/s, and qualities, that our models are measured at."""


def peers_of(kind: str) -> list[str]:
    """Names of the peers for a kind of media that this machine has."""
    return [name for name, peer in PEERS[kind].items() if peer.available()]


def round_trip(original: Original, codec: str, setting: float) -> Decoded:
    """A clip through a codec.

    Args:
        original: the clip.
        codec: name of a peer, or of one of our models (see `model_and_effort`).
        setting: kbit/s, a quality, or what else the codec takes.

    Raises:
        ConfigError: this machine does not have the peer.
        ModelError: there is no such model, or it is for another kind of media.
    """
    with peak_memory() as grown:
        if codec in PEERS[original.kind]:
            decoded = PEERS[original.kind][codec].round_trip(original, setting)
        else:
            ours = _our_sound if original.kind == "sound" else _our_pictures
            decoded = ours(original, codec, setting)
    return replace(decoded, memory_mb=grown())


@contextmanager
def peak_memory() -> Iterator[Callable[[], float | None]]:
    """How far resident memory rose within the block, in MB, to ask for afterwards; None but on Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is resident now
        before = _status("VmRSS")
        yield lambda: _status("VmHWM") - before
    except OSError:
        yield lambda: None


def _status(field: str) -> float:
    """A field of this process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field + ":")) * 1024 / 1e6


def model_and_effort(name: str) -> tuple[str, int | None]:
    """`NAME:16` is a model of sound at an effort of 16, `NAME` at what `fsqcodec encode` takes by itself."""
    model, _, effort = name.rpartition(":")
    return (model, int(effort)) if model and effort.isdecimal() else (name, None)


@cache
def _audio(model: str) -> NeuralAudioCodec:
    return load_audio(model)


@cache
def _visual(model: str) -> NeuralVisualCodec:
    return load_visual(model)


def _our_sound(original: Original, name: str, kbps: float) -> Decoded:
    model, effort = model_and_effort(name)
    codec, rate = _audio(model), int(original.rate)
    samples = cast(NDArray[np.float32], original.data)
    data, coding = timed(lambda: codec.to_bytes(codec.encode(samples, rate, kbps=kbps, effort=effort)))
    decoded, decoding = timed(lambda: codec.decode(codec.from_bytes(data))[0])
    return Decoded(decoded, len(data), coding, decoding)


def _our_pictures(original: Original, model: str, quality: float) -> Decoded:
    codec = _visual(model)
    frames = [Frame(cast(NDArray[np.uint8], picture), i) for i, picture in enumerate(original.data)]
    height, width = original.data.shape[1:3]
    still = original.kind == "picture"

    def encode() -> bytes:
        file = io.BytesIO()
        writer = Writer(file, codec.header(height, width, frames=len(frames), still=still, packet_frames=32))
        done = 0
        for group in codec.groups(frames):
            writer.write(codec.encode_group(group, done, int(quality)))
            done += len(group)
        writer.finish()
        return file.getvalue()

    def decode() -> NDArray[np.uint8]:
        reader = Reader(io.BytesIO(data))
        header = codec.check(reader)
        return np.stack([frame.picture for packet in reader for frame in codec.decode_group(packet, header)])

    data, coding = timed(encode)
    decoded, decoding = timed(decode)
    return Decoded(decoded, len(data), coding, decoding)
