"""Speed of encoder and decoder without bitstreams, beside the encodec package's 24 kHz model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from fsqcodec.audio.chunked import StreamDecoder, StreamEncoder
from fsqcodec.audio.codec import NeuralAudioCodec

from .rows import Row, Signal

_RUNS = 5


@dataclass(frozen=True)
class Seconds:
    """Of one run."""

    encode: float
    decode: float


def has_encodec() -> bool:
    """Whether the peer is installed."""
    try:
        import encodec  # noqa: F401
    except ImportError:
        return False
    return True


def speed(codec: NeuralAudioCodec, signal: Signal) -> list[Row]:
    """Times real time of the codec and, where it is installed, of EnCodec with random weights.

    Both run on the same audio in turns, five times each; the best time of each counts.

    Args:
        codec: the model.
        signal: at the model's rate, which is also the peer's.
    """
    contestants = {codec.name: _ours(codec, signal)}
    if has_encodec():
        contestants["encodec 24 kHz"] = _encodec(signal)
    runs: dict[str, list[Seconds]] = {name: [] for name in contestants}
    for _ in range(_RUNS):
        for name, contestant in contestants.items():
            runs[name].append(contestant())
    seconds = len(signal) / codec.sample_rate
    times = {
        name: {
            "encode_x_real_time": seconds / min(run.encode for run in each),
            "decode_x_real_time": seconds / min(run.decode for run in each),
        }
        for name, each in runs.items()
    }
    rows: list[Row] = [{"model": name, **each} for name, each in times.items()]
    if len(rows) == 2:
        own, peer = times.values()
        rows.append({"model": "ratio", **{key: own[key] / peer[key] for key in own}})
    return rows


def _ours(codec: NeuralAudioCodec, signal: Signal) -> Callable[[], Seconds]:
    encoder, decoder = StreamEncoder(codec.networks), StreamDecoder(codec.networks)

    def encode() -> list[Any]:
        encoder.reset()
        return [encoder.push(signal), encoder.flush()]

    def run() -> Seconds:
        encoder.reset()
        decoder.reset()
        tokens = encode()

        def decode() -> None:
            for part in tokens:
                decoder.push(part)
            decoder.flush()

        return Seconds(_timed(encode), _timed(decode))

    return run


def _encodec(signal: Signal) -> Callable[[], Seconds]:
    from encodec import EncodecModel

    peer = EncodecModel.encodec_model_24khz(pretrained=False).eval()
    peer.set_target_bandwidth(6.0)
    samples = torch.from_numpy(signal)[None, None]

    def run() -> Seconds:
        with torch.inference_mode():
            frames = peer.encode(samples)
            return Seconds(_timed(lambda: peer.encode(samples)), _timed(lambda: peer.decode(frames)))

    return run


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
