"""Live sound when packets are lost: concealed by us, with silence in the gaps, and concealed by Opus."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes.util import find_library
from importlib.util import find_spec

import numpy as np
from fsqcodec import AudioCodec, LiveDecoder, LiveEncoder
from numpy.typing import NDArray

from .benchmarks.rows import Row, mean
from .metrics import Signal, align, score

_MEASURES = ("PESQ-WB", "ViSQOL")
_PERCENT, _BURSTS = (0, 1, 3, 5, 10, 20), (1, 3)
"""Of the packets that are lost, and how many in a row, in the table."""
AFTER = (40, 100, 200, 400)
"""Milliseconds after a gap."""
_PACKET = 2
"""Latent frames of a packet where gaps are looked at."""
_APART, _GAP = 25, 5
"""Packets from gap to gap, and in one."""
_NEVER = 1 << 30
"""Packets from one independent packet to the next where they come when they are asked for."""
_SILENT = 1e-6
"""Power of what is no sound to be off from."""


def losses(count: int, percent: float, burst: int, seed: int) -> NDArray[np.bool_]:
    """Which of `count` packets are lost, in runs of `burst`; the first one never is."""
    starts = np.random.default_rng(seed).random(count) < percent / 100 / burst
    lost: NDArray[np.bool_] = np.convolve(starts, np.ones(burst))[:count] > 0
    lost[:1] = False
    return lost


def by_loss(codec: AudioCodec, clips: Sequence[Signal], frames: int, answer: int = 0) -> list[Row]:
    """Means of `measure` over clips at 0 to 20 % loss, single and in bursts of three."""
    rows = []
    for percent in _PERCENT:
        for burst in _BURSTS if percent else (1,):
            each = [measure(codec, clip, frames, percent, burst, i, answer) for i, clip in enumerate(clips)]
            rows.append({"loss_%": percent, "burst": burst, **mean(each)})
    return rows


def measure(
    codec: AudioCodec,
    clip: Signal,
    frames: int,
    percent: float,
    burst: int,
    seed: int,
    answer: int = 0,
) -> dict[str, float]:
    """PESQ-WB and ViSQOL of a clip (n,) in packets of `frames` latent frames, some of them lost.

    Opus (libopus by `opuslib`, where both are installed) gets packets as long, at the bitrate that ours take
    with their headers.

    Args:
        codec: the model.
        clip: float32 (n,) at its rate.
        frames: latent frames in a packet.
        percent: of the packets that are lost.
        burst: lost in a row.
        seed: of the losses.
        answer: packets on the way until the sender hears that an independent one is needed; every packet is
            one when 0.
    """
    sender = LiveEncoder(codec, frames, independent_every=_NEVER if answer else 1)
    receiver = LiveDecoder(codec)
    block = frames * codec.networks.frame
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
    concealed = _fit(np.concatenate([*heard, receiver.flush()]), len(clip))
    gaps = _fit(np.repeat(lost, block), len(clip))
    versions = {"": concealed, ", silence": np.where(gaps, np.float32(0), concealed)}
    kbps = sum(map(len, packets)) * 8 / len(clip) * codec.sample_rate / 1000
    row = {"lost_%": 100 * float(lost.mean()), "kbps": kbps}
    if find_spec("opuslib") and find_library("opus"):
        milliseconds = round(1000 * frames / codec.frame_rate)
        versions[", Opus"], row["kbps, Opus"] = _opus(clip, codec.sample_rate, kbps, milliseconds, lost)
    for name, version in versions.items():
        scores = score(version, clip, codec.sample_rate)
        row |= {f"{measure}{name}": scores[measure] for measure in _MEASURES if measure in scores}
    return row


def recovery(codec: AudioCodec, clip: Signal) -> list[dict[str, float]]:
    """How far what is heard after gaps of 200 ms is off, for every gap: dB below the sound, by `AFTER`.

    The gaps lie a second apart in packets of 40 ms; the sound is that of a receiver without losses, over the
    100 ms that follow so many milliseconds after the first packet behind the gap.

    Args:
        codec: the model.
        clip: float32 (n,) at its rate.
    """
    whole, packets = LiveDecoder(codec), LiveEncoder(codec, _PACKET).push(clip)
    heard = np.concatenate([whole.push(packet) for packet in packets])
    networks, rows = codec.networks, []
    span = codec.sample_rate // 10
    for gone in range(_APART, len(packets) - 2 * _GAP, _APART):
        receiver = LiveDecoder(codec)
        received = [receiver.push(p) for i, p in enumerate(packets) if not gone <= i < gone + _GAP]
        error = np.concatenate(received) - heard
        behind = (gone + _GAP) * _PACKET * networks.frame - networks.lag
        row = {}
        for after in AFTER:
            start = behind + codec.sample_rate * after // 1000
            wrong, sound = (float(np.square(x[start:][:span]).sum()) for x in (error, heard))
            if sound > _SILENT * span:
                row[f"after_{after}_ms_dB"] = 10 * np.log10(sound / max(wrong, 1e-12))
        rows.append(row)
    return [row for row in rows if len(row) == len(AFTER)]


def mean_and_worst(rows: Sequence[dict[str, float]]) -> list[Row]:
    """Of the gaps of `recovery`."""
    worst = {column: min(row[column] for row in rows) for column in rows[0]}
    return [{"of": f"{len(rows)} gaps", **mean(rows)}, {"of": "the worst", **worst}]


def _opus(
    clip: Signal, sample_rate: int, kbps: float, milliseconds: int, lost: NDArray[np.bool_]
) -> tuple[Signal, float]:
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
    decoded = np.frombuffer(b"".join(heard), np.int16).astype(np.float32) / np.float32(32768)
    return align(decoded, clip)[0], spent * 8 / len(clip) * sample_rate / 1000


def _fit(x: NDArray[np.generic], length: int) -> NDArray[np.generic]:
    return np.pad(x[:length], (0, max(0, length - len(x))))
