"""Colours between YUV and RGB."""

from __future__ import annotations

import pytest
from fsqcodec.media.color import Colours, from_rgb, to_rgb
from media import picture, psnr


def test_samples_of_a_video_survive_rgb() -> None:
    """YUV to RGB and back costs nothing to speak of: 55.6 dB, where truncation left 47.5."""
    frame = from_rgb(picture(96, 128) // 2 + 64, "yuv420p", Colours(1))  # far from the borders of RGB
    again = from_rgb(to_rgb(frame), "yuv420p", Colours(1))
    assert psnr(again.to_ndarray(), frame.to_ndarray()) > 54


def test_a_colour_matrix_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="colour matrix 3"):
        Colours(3)
