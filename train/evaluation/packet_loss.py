"""Live sound when packets are lost: ours, ours with silence in the gaps, and Opus with its own concealment."""

from __future__ import annotations

from ctypes.util import find_library
from importlib.util import find_spec

import numpy as np
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.live.decoder import LiveDecoder
from fsqcodec.live.encoder import LiveEncoder
from numpy.typing import NDArray

from .metrics import align, score

Samples = NDArray[np.float32]
_MEASURES = ("PESQ-WB", "ViSQOL")
AFTER = (40, 100, 200, 400)
"""Milliseconds after a gap."""
_APART, _GAP = 25, 5
"""Packets from gap to gap, and in one."""
_NEVER = 1 << 30
"""Packets from key to key where they come when they are asked for."""
_SILENT = 1e-6
"""Power of what is no sound to be off from."""


def losses(count: int, percent: float, burst: int, seed: int) -> NDArray[np.bool_]:
    """Which of `count` packets are lost, in runs of `burst`; the first one never is."""
    starts = np.random.default_rng(seed).random(count) < percent / 100 / burst
    lost: NDArray[np.bool_] = np.convolve(starts, np.ones(burst))[:count] > 0
    lost[:1] = False
    return lost


def measure(
    codec: NeuralAudioCodec,
    clip: Samples,
    frames: int,
    percent: float,
    burst: int,
    seed: int,
    answer: int = 0,
) -> dict[str, float]:
    """PESQ-WB and ViSQOL of a clip (n,) in packets of `frames` latent frames, some of them lost.

    Opus (libopus by `opuslib`, where both are installed) gets packets as long, at the bitrate that ours take with their heads.

    Args:
        codec: the model.
        clip: float32 (n,) at its rate.
        frames: latent frames in a packet.
        percent: of the packets that are lost.
        burst: lost in a row.
        seed: of the losses.
        answer: packets on the way until the sender hears that a key is needed; every packet is one when 0.
    """
    sender, receiver = (
        LiveEncoder(codec, frames, independent_every=_NEVER if answer else 1),
        LiveDecoder(codec),
    )
    block = frames * codec.model.config.frame
    parts = [clip[start : start + block] for start in range(0, len(clip), block)]
    lost, asked = losses(len(parts) + 2, percent, burst, seed), -answer
    packets: list[bytes] = []
    heard = []
    for part in [*parts, None]:
        for packet in sender.flush() if part is None else sender.push(part):
            if not lost[len(packets)]:
                heard.append(receiver.push(packet))
            packets.append(packet)
            if receiver.needs_independent and len(packets) > asked + answer:
                asked = len(packets)
            if len(packets) == asked + answer:
                sender.request_independent()
    lost = lost[: len(packets)]
    made_up = _fit(np.concatenate([*heard, receiver.flush()]), len(clip))
    gaps = _fit(np.repeat(lost, frames * codec.model.config.frame), len(clip))
    versions = {"": made_up, ", silence": np.where(gaps, np.float32(0), made_up)}
    kbps = sum(map(len, packets)) * 8 / len(clip) * codec.sample_rate / 1000
    found = {"lost_%": 100 * float(lost.mean()), "kbps": kbps}
    if find_spec("opuslib") and find_library("opus"):
        milliseconds = round(1000 * frames / codec.frame_rate)
        versions[", Opus"], found["kbps, Opus"] = _opus(clip, codec.sample_rate, kbps, milliseconds, lost)
    for name, version in versions.items():
        scores = score(version, clip, codec.sample_rate)
        found |= {f"{key}{name}": scores[key] for key in _MEASURES if key in scores}
    return found


def recovery(codec: NeuralAudioCodec, clip: Samples) -> list[dict[str, float]]:
    """How far what is heard after gaps of 200 ms is off, for every gap: dB below the sound, by `AFTER`.

    The gaps lie a second apart in packets of 40 ms; the sound is that of a receiver without losses, over the 100 ms that
    follow so many milliseconds after the first packet behind the gap.

    Args:
        codec: the model.
        clip: float32 (n,) at its rate.
    """
    sender, whole = LiveEncoder(codec, 2), LiveDecoder(codec)
    packets = sender.push(clip)
    heard = np.concatenate([whole.push(packet) for packet in packets])
    config, found = codec.model.config, []
    span = config.sample_rate // 10
    for gone in range(_APART, len(packets) - 2 * _GAP, _APART):
        receiver = LiveDecoder(codec)
        got = [receiver.push(p) for i, p in enumerate(packets) if not gone <= i < gone + _GAP]
        error = np.concatenate(got) - heard
        behind = (gone + _GAP) * 2 * config.frame - config.lag
        row = {}
        for after in AFTER:
            place = slice(behind + config.sample_rate * after // 1000, None)
            wrong, sound = (float(np.square(x[place][:span]).sum()) for x in (error, heard))
            if sound > _SILENT * span:
                row[f"after_{after}_ms_dB"] = 10 * np.log10(sound / max(wrong, 1e-12))
        found.append(row)
    return [row for row in found if len(row) == len(AFTER)]


def _opus(
    clip: Samples, sample_rate: int, kbps: float, milliseconds: int, lost: NDArray[np.bool_]
) -> tuple[Samples, float]:
    """A clip through libopus with lost packets concealed by it, aligned, and the bitrate that it took."""
    import opuslib
    import opuslib.api.decoder as low

    size = sample_rate * milliseconds // 1000
    encoder = opuslib.Encoder(sample_rate, 1, opuslib.APPLICATION_VOIP)
    encoder.bitrate = round(kbps * 1000)
    decoder = opuslib.Decoder(sample_rate, 1)
    pcm = np.clip(np.rint(np.pad(clip, (0, -len(clip) % size)) * 32767), -32768, 32767).astype(np.int16)
    heard, spent = [], 0
    for number, part in enumerate(pcm.reshape(-1, size)):
        packet = encoder.encode(part.tobytes(), size)
        spent += len(packet)
        gone = number < len(lost) and lost[number]
        data = (None, 0) if gone else (packet, len(packet))  # no packet asks libopus for concealment
        heard.append(low.decode(decoder.decoder_state, *data, size, False, channels=1))
    back = np.frombuffer(b"".join(heard), np.int16).astype(np.float32) / np.float32(32768)
    return align(back, clip)[0], spent * 8 / len(clip) * sample_rate / 1000


def _fit(x: NDArray[np.generic], length: int) -> NDArray[np.generic]:
    return np.pad(x[:length], (0, max(0, length - len(x))))
