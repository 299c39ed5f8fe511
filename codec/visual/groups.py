"""Groups of RGB frames ↔ packets: networks, prior and range coder put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..bitstream.header import check_model
from ..bitstream.packet import Packet
from ..bitstream.reader import Reader
from ..entropy import range_coder
from ..errors import BitstreamError
from ..media.image import from_png, to_png
from ..media.video_reader import Frame, Picture
from .header import SideInfo, VisualHeader, side_of
from .model import STRIDE, VisualModel
from .prior import VisualPrior
from .skip import PATIENCE, Skips

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
GROUP = 32
"""Frames in a packet, at most."""
_STRIP = 1 << 22
"""Pixels that the networks see at once."""
_CUT = 28.0
"""Mean difference of neighbouring frames, of 255, that begins a new group."""


class GroupCodec:
    """Encodes and decodes groups of frames with one model; `NeuralVisualCodec` makes files of them.

    Args:
        name: of the model.
        model: the networks.
        prior: codes their digits.
        model_hash: 8 bytes: what the tokens mean.
        metadata: configuration and provenance of the model, as in its file.
    """

    def __init__(
        self, name: str, model: VisualModel, prior: VisualPrior, model_hash: bytes, metadata: dict[str, Any]
    ) -> None:
        self.name, self.model, self.prior = name, model.eval(), prior
        self.model_hash, self.metadata = model_hash, metadata

    @property
    def qualities(self) -> int:
        """Number of qualities; 1 is the lowest."""
        return self.model.config.qualities

    @property
    def stages(self) -> int:
        """Stages of the quantizer."""
        return self.model.quantizer.stages

    # pictures ↔ digits

    @torch.inference_mode()
    def analyse(self, picture: Picture, quality: int) -> Tensor:
        """Latents of an RGB picture (H, W, 3) at quality 1 …, in cells of the finest grid, not rounded: (h, w, D)."""
        height, width = picture.shape[:2]
        padding = ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0))
        padded = torch.from_numpy(np.pad(picture, padding, mode="edge"))
        wanted = torch.tensor([quality - 1])
        parts = []
        for first, last, before, after in self._strips(padded.shape[0] // STRIDE, padded.shape[1] // STRIDE):
            rows = padded[(first - before) * STRIDE : (last + after) * STRIDE]
            z = self.model.encoder(rows[None].float() / 127.5 - 1, wanted)
            parts.append(torch.tanh(z[0, before : before + last - first]))
        layout = self.prior.layout
        return torch.cat(parts) * float(layout.levels**layout.passes / 2)

    @torch.inference_mode()
    def synthesise(self, digits: Tensor, quality: int, height: int, width: int) -> Picture:
        """RGB picture (height, width, 3) of centred digits (h, w, passes, D)."""
        layout = self.prior.layout
        values = layout.known(digits, layout.passes, 0) * (2 / layout.levels**layout.passes)
        wanted = torch.tensor([quality - 1])
        parts = []
        for first, last, before, after in self._strips(*digits.shape[:2]):
            y = self.model.decoder(values[None, first - before : last + after], wanted)[0]
            y = y[before * STRIDE : (before + last - first) * STRIDE]
            parts.append(((y + 1) * 127.5).round().clamp(0, 255).byte())
        picture: Picture = torch.cat(parts)[:height, :width].numpy()
        return picture

    def _strips(self, rows: int, columns: int) -> Iterator[tuple[int, int, int, int]]:
        """Bands of latent rows that bound memory: first, last, and rows of surroundings above and below.

        The surroundings are all that the networks look at, so bands join without a seam.
        """
        size, halo = max(1, _STRIP // (columns * STRIDE**2)), self.model.config.halo
        for first in range(0, rows, size):
            last = min(rows, first + size)
            yield first, last, min(halo, first), min(halo, rows - last)

    # groups of frames ↔ packets

    def encode_group(
        self, frames: Sequence[Frame], start: int, quality: int, stages: int | None = None
    ) -> Packet:
        """A packet of a group of frames; the first one does not look back.

        Args:
            frames: of one size.
            start: number of the first.
            quality: 1 … qualities.
            stages: write this many stages (all when None).
        """
        per_layer = self.model.config.stages_per_layer
        coders = [range_coder.encoder() for _ in range(-(-(stages or self.stages) // per_layer))]
        before: Tensor | None = None
        height, width = (-(-side // STRIDE) for side in frames[0].picture.shape[:2])
        skips = Skips(height, width)
        for values in _ahead(lambda f: self.analyse(f.picture, quality), frames):
            before = self.prior.encode(coders, values, before, quality - 1, skips, PATIENCE)
        alpha = b""
        if any(frame.alpha is not None for frame in frames):
            planes = [
                frame.alpha if frame.alpha is not None else np.full(frame.picture.shape[:2], 255, np.uint8)
                for frame in frames
            ]
            alpha = to_png(np.concatenate(planes))
        side = SideInfo(quality, tuple(frame.time for frame in frames), alpha, skipping=True)
        return Packet(0, start, len(frames), (side.pack(), *(coder.finish() for coder in coders)))

    def decode_group(
        self, packet: Packet, header: VisualHeader, stages: int | None = None
    ) -> Iterator[Frame]:
        """The frames of a packet, decoded from at most `stages` stages.

        Raises:
            BitstreamError: a layer is damaged.
        """
        per_layer = header.stages_per_layer
        side = side_of(packet)
        try:
            if not 1 <= side.quality <= self.qualities:
                raise ValueError(f"quality {side.quality} is beyond the model's {self.qualities}")
            alpha = self._alpha(side, header, packet.frames)
        except ValueError as error:
            raise BitstreamError(f"side information: {error}") from None
        layers = -(-min(stages or header.stages, header.stages) // per_layer)
        digits = self._digits(packet, header, side, layers)
        pictures = _ahead(lambda d: self.synthesise(d, side.quality, header.height, header.width), digits)
        for i, picture in enumerate(pictures):
            yield Frame(picture, side.times[i], None if alpha is None else alpha[i])

    def _digits(
        self, packet: Packet, header: VisualHeader, side: SideInfo, layers: int | None = None
    ) -> Iterator[Tensor]:
        """Digits of a packet's frames, of all layers that it has or of the first."""
        quality = side.quality - 1
        messages = packet.layers[1:] if layers is None else packet.layers[1 : 1 + layers]
        decoders = [range_coder.decoder(message) for message in messages]
        size = (-(-header.height // STRIDE), -(-header.width // STRIDE))
        before: Tensor | None = None
        skips = Skips(*size) if side.skipping else None
        for _ in range(packet.frames):
            before = self.prior.decode(decoders, *size, before, quality, skips)
            yield before

    def frame_bits(self, packet: Packet, header: VisualHeader) -> list[float]:
        """Bits of every frame of a packet, by the prior; together they are the packet's layers within some bytes.

        Raises:
            BitstreamError: a layer is damaged.
        """
        side = side_of(packet)
        lengths, before = list[float](), None
        for digits in self._digits(packet, header, side):
            bits = self.prior.bits(digits, before, side.quality - 1)
            lengths.append(float(bits[: len(packet.layers) - 1].sum()))
            before = digits
        return lengths

    @staticmethod
    def _alpha(side: SideInfo, header: VisualHeader, frames: int) -> NDArray[np.uint8] | None:
        if not side.transparency:
            return None
        planes = from_png(side.transparency)
        if planes.shape != (frames * header.height, header.width):
            raise ValueError("transparency of another size")
        return planes.reshape(frames, header.height, header.width)

    def groups(self, frames: Iterable[Frame], most: int = GROUP) -> Iterator[list[Frame]]:
        """Groups of at most `most` frames; a scene cut begins a new one."""
        group: list[Frame] = []
        thumbnail: NDArray[np.float32] | None = None
        for frame in frames:
            step = max(1, min(frame.picture.shape[:2]) // 48)
            small = frame.picture[::step, ::step].astype(np.float32)
            cut = thumbnail is not None and float(np.abs(small - thumbnail).mean()) > _CUT
            if group and (cut or len(group) == most):
                yield group
                group = []
            group.append(frame)
            thumbnail = small
        if group:
            yield group

    # headers

    def header(self, height: int, width: int, **facts: Any) -> VisualHeader:
        """Header of a file of this model; `facts` are further fields of `VisualHeader`."""
        config = self.model.config
        usual = {
            "tick": Fraction(1, 25),
            "frame_rate": Fraction(25),
            "frames": 1,
            "stages": self.stages,
            "stages_per_layer": config.stages_per_layer,
            "packet_frames": GROUP,
        }
        return VisualHeader(self.name, self.model_hash, self.prior.hash, width, height, **usual | facts)

    def check(self, reader: Reader) -> VisualHeader:
        """The header of a file of pictures that was made with this model.

        Raises:
            ModelError: it was made with another.
            BitstreamError: it holds sound only.
        """
        header = reader.header
        if not isinstance(header, VisualHeader):
            raise BitstreamError(f"{reader.name}: holds sound and no pictures")
        check_model(reader.name, header, self.name, self.model_hash, [self.prior.hash])
        return header


def _ahead(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """`work` of every item in order, one item ahead in another thread: networks run while tokens are coded."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for item in items:
            following = pool.submit(work, item)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
