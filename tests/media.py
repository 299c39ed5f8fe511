"""Pictures and clips made for the tests: nobody's but ours."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from numpy.typing import NDArray


def picture(height: int, width: int, shift: float = 0.0) -> NDArray[np.uint8]:
    """A smooth scene with edges and a little texture, RGB (height, width, 3)."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    x = x + shift
    red = 128 + 90 * np.sin(x / 17) * np.cos(y / 23)
    green = 60 + 120 * ((x // 24 + y // 31) % 2)
    blue = 200 * np.exp(-((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width * height / 6))
    noise = np.random.default_rng(1).normal(0, 2, (height, width, 3))
    return np.clip(np.stack([red, green, blue], -1) + noise, 0, 255).astype(np.uint8)


def write_video(
    path: Path,
    frames: int = 10,
    size: tuple[int, int] = (64, 80),
    times: list[int] | None = None,
    sound: float = 0.0,
) -> None:
    """A clip of a moving scene (FFV1 or H.264 by extension), 600 ticks a second, perhaps with `sound` seconds."""
    with av.open(
        str(path), "w", options={"video_track_timescale": "600"} if path.suffix == ".mp4" else {}
    ) as out:
        codec = "libx264" if path.suffix == ".mp4" else "ffv1"
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 600)
        audio = out.add_stream("aac", rate=44100, layout="stereo") if sound else None
        for i in range(frames):
            frame = VideoFrame.from_ndarray(picture(*size, shift=2.0 * i), format="rgb24")
            frame.pts, frame.time_base = (times or [24 * n for n in range(frames)])[i], Fraction(1, 600)
            out.mux(stream.encode(frame))
        if audio:
            t = np.arange(int(sound * 44100)) / 44100
            wave = np.stack([0.3 * np.sin(2 * np.pi * f * t) for f in (220, 330)]).astype(np.float32)
            for start in range(0, wave.shape[1], 1024):
                block = AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave[:, start : start + 1024]), "fltp", "stereo"
                )
                block.sample_rate, block.pts = 44100, start
                out.mux(audio.encode(block))
            out.mux(audio.encode(None))
        out.mux(stream.encode(None))


def times_of(path: Path) -> list[float]:
    """Seconds at which the frames of a video are shown."""
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def sound_packets(path: Path) -> list[bytes]:
    """Coded packets of a file's sound."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB."""
    return float(10 * np.log10(255**2 / max(1e-9, np.square(a.astype(float) - b).mean())))
