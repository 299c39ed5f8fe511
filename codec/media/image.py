"""Pictures as PNG and JPEG and other single images, by FFmpeg's coders through PyAV."""

from __future__ import annotations

import io
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ..errors import MediaError
from .audio import reason
from .color import Colours, from_rgb

MAX_SIDE, MAX_PIXELS = 1 << 14, 1 << 26
"""How large pictures may be: pixels across or down, and in all."""
STILLS = {
    ".png": "png",
    ".jpg": "mjpeg",
    ".jpeg": "mjpeg",
    ".webp": "libwebp",
    ".bmp": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".ppm": "ppm",
    ".pgm": "pgm",
}
"""Coder of each extension that one picture is written to."""
_FORMATS = {1: "gray", 3: "rgb24", 4: "rgba"}
_ALPHA = {"png", "libwebp", "tiff"}


def encode_still(picture: NDArray[np.uint8], suffix: str) -> bytes:
    """The bytes of an image file of a picture uint8 (H, W), (H, W, 3) or (H, W, 4).

    Transparency is kept where the format has it; JPEG and WebP are written at their best quality.

    Raises:
        MediaError: the extension is unknown, or its coder refuses the picture.
    """
    if suffix not in STILLS:
        raise MediaError(f"{suffix or 'no extension'}: no picture format; use one of {', '.join(STILLS)}")
    codec = STILLS[suffix]
    channels = 1 if picture.ndim == 2 else picture.shape[2]
    if channels == 4 and codec not in _ALPHA:
        picture, channels = picture[..., :3], 3
    height, width = picture.shape[:2]
    wanted = {
        "mjpeg": "yuvj444p",
        "libwebp": "bgra" if channels == 4 else "yuv420p",
        "bmp": "bgr24",
        "pgm": "gray",
    }.get(codec, _FORMATS[channels])
    options = {"mjpeg": {"qmin": "1", "qmax": "1", "strict": "-1"}, "libwebp": {"quality": "100"}}.get(
        codec, {}
    )
    try:
        context = cast(av.VideoCodecContext, av.CodecContext.create(codec, "w"))
        context.width, context.height, context.pix_fmt = width, height, wanted
        context.time_base, context.options = 1, options  # type: ignore[assignment]
        if channels == 3:
            frame = from_rgb(picture, wanted, Colours(full=codec == "mjpeg"))
        else:
            own = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=_FORMATS[channels])
            frame = own.reformat(format=wanted)
        packets = [*context.encode(frame), *context.encode(None)]
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{suffix}: cannot hold this picture ({reason(error)}); use .png") from None
    return b"".join(bytes(packet) for packet in packets)


def to_png(plane: NDArray[np.uint8]) -> bytes:
    """PNG of a grey plane uint8 (H, W), without loss."""
    return encode_still(plane, ".png")


def from_png(data: bytes) -> NDArray[np.uint8]:
    """Inverse of `to_png`.

    Raises:
        ValueError: not such a PNG.
    """
    try:
        with cast(InputContainer, av.open(io.BytesIO(data), format="png_pipe")) as container:
            stream = cast(VideoStream, container.streams.video[0])
            for frame in container.decode(stream):
                plane: NDArray[np.uint8] = cast(NDArray[np.uint8], frame.to_ndarray(format="gray"))
                return plane
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise ValueError(f"not a PNG ({reason(error)})") from None
    raise ValueError("an empty PNG")
