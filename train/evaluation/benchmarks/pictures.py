"""Speed and memory of the codec for pictures and video, tokens and coder included."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from fsqcodec.media.video_reader import FrameReader
from fsqcodec.visual.codec import NeuralVisualCodec

from .rows import Row

_FRAMES = 32


def frames_a_second(codec: NeuralVisualCodec, file: Path, quality: int) -> Row:
    """Frames a second on the first 32 frames of a clip, bits a pixel, and the process's peak memory so far.

    Raises:
        MediaError: the file cannot be read.
    """
    with FrameReader(file) as reader:
        frames = [frame for frame, _ in zip(reader, range(_FRAMES), strict=False)]
    codec.encode_group(frames[:1], 0, quality)  # the loops are compiled
    height, width = frames[0].picture.shape[:2]
    header = codec.header(height, width, frames=len(frames))
    begin = time.perf_counter()
    packet = codec.encode_group(frames, 0, quality)
    middle = time.perf_counter()
    for _ in codec.decode_group(packet, header):
        pass
    end = time.perf_counter()
    return {
        "clip": file.name,
        "width": width,
        "height": height,
        "frames": len(frames),
        "bpp": sum(map(len, packet.layers)) * 8 / width / height / len(frames),
        "encode_fps": len(frames) / (middle - begin),
        "decode_fps": len(frames) / (end - middle),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }
