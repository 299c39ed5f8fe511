"""Scores of a model for sound on clips: SI-SDR always, PESQ and ViSQOL where their packages are installed."""

from __future__ import annotations

import math

import numpy as np
import torch
from fsqcodec.audio.model import AudioConfig, AudioModel
from fsqcodec.media.audio import AudioReader
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ..data.manifest import list_media
from ..evaluation.metrics import pesq_wideband, si_sdr, visqol_speech
from ..rate import code_lengths
from .prior import PriorNetwork

_TARGETS = (6.0, 3.0, 1.5)
"""kbit/s that the scores at a bitrate are given for."""
_OVERHEAD = 1.03
"""A file's bytes over the bits of its tokens."""


class AudioValidator:
    """Mean scores over clips at a number of stages; with a prior, also at bitrates.

    Args:
        clips: float32 (n,) each.
        config: of the model.
        prior: the network whose bits count; fixed-length codes do when None.
    """

    def __init__(self, clips: list[Tensor], config: AudioConfig, prior: PriorNetwork | None = None) -> None:
        self.config, self.clips, self.prior = config, clips, prior

    @classmethod
    def of_media(
        cls, media: str, config: AudioConfig, seconds: float = 6.0, prior: PriorNetwork | None = None
    ) -> AudioValidator:
        """The first seconds of every file of a folder or glob, mono, at the model's rate.

        Raises:
            ConfigError: there are no media.
            MediaError: one cannot be read.
        """
        clips = []
        for file in list_media(media):
            with AudioReader(file, config.sample_rate) as reader:
                mono = torch.from_numpy(reader.read().mean(axis=0))
            clips.append(mono[: int(seconds * config.sample_rate)])
        return cls(clips, config, prior)

    def _run(self, model: AudioModel, clip: Tensor, stages: int) -> tuple[Tensor, Tensor]:
        """A clip (N,) through the first `stages` stages, and its tokens int64 (1, T, all stages)."""
        frame = self.config.frame
        padded = torch.nn.functional.pad(clip, (0, -len(clip) % frame + frame * -(-self.config.lag // frame)))
        device = next(model.parameters()).device
        y, tokens, _ = model(padded[None].to(device), torch.tensor([stages], device=device))
        return y[0, : len(clip)].cpu(), tokens

    @torch.no_grad()
    def reconstruct(self, model: AudioModel, clip: Tensor, stages: int) -> Tensor:
        """A clip (N,) through the first `stages` stages."""
        return self._run(model, clip, stages)[0]

    @torch.no_grad()
    def score(self, model: AudioModel) -> dict[str, float]:
        """SI-SDR in dB, PESQ and ViSQOL: `…_N` of N stages (all, half, a quarter), `…_at_K` of K kbit/s.

        A bitrate between those of two numbers of stages has a score between theirs, as files have.
        """
        model.eval()
        full = model.quantizer.stages
        kbps = self._kbps(model)
        parts = {f"{stages}": float(stages) for stages in (full, full // 2, full // 4)}
        fitting = np.interp(_TARGETS, kbps * _OVERHEAD, np.arange(1, full + 1))
        parts |= {f"at_{target:g}": float(stages) for target, stages in zip(_TARGETS, fitting, strict=True)}
        # Settings often come to the same number of stages, and ViSQOL is slow.
        needed = {stages for part in parts.values() for stages in (math.floor(part), math.ceil(part))}
        quality = {stages: self._quality(model, stages) for stages in sorted(needed)}
        scores = {"kbps": float(kbps[-1])}
        for part, stages in parts.items():
            less, more = quality[math.floor(stages)], quality[math.ceil(stages)]
            for name in (name for name in less if name in more):
                scores[f"{name}_{part}"] = less[name] + (more[name] - less[name]) * (stages % 1)
        return scores | {f"stages_{part}": stages for part, stages in parts.items() if part[0] == "a"}

    @torch.no_grad()
    def _quality(self, model: AudioModel, stages: int) -> dict[str, float]:
        pairs = [(self.reconstruct(model, clip, stages), clip) for clip in self.clips]
        scores = {"si_sdr": float(np.mean([si_sdr(y, x) for y, x in pairs]))}
        for name, measure in (("pesq", pesq_wideband), ("visqol", visqol_speech)):
            each = [measure(y, x, self.config.sample_rate) for y, x in pairs]
            values = [value for value in each if value is not None]
            if values:
                scores[name] = float(np.mean(values))
        return scores

    @torch.no_grad()
    def _kbps(self, model: AudioModel) -> NDArray[np.float64]:
        """Bitrate of every prefix of the stages, (stages,)."""
        quantizer, rate = model.quantizer, self.config.frame_rate / 1000
        if self.prior is None:
            return np.arange(1, quantizer.stages + 1, dtype=np.float64) * quantizer.bits * rate
        spent, frames = torch.zeros(quantizer.stages), 0
        for clip in self.clips:
            digits = quantizer.stage_digits(self._run(model, clip, 1)[1])
            spent += code_lengths(self.prior.to(digits.device)(digits), digits).sum((0, 1, 3)).cpu()
            frames += digits.shape[1]
        kbps: NDArray[np.float64] = (spent.cumsum(0) / frames * rate).double().numpy()
        return kbps

    def write_samples(self, model: AudioModel, writer: SummaryWriter, step: int) -> None:
        """Two reconstructed clips to TensorBoard."""
        for i, clip in enumerate(self.clips[:2]):
            y = self.reconstruct(model, clip, model.quantizer.stages)
            writer.add_audio(f"clip{i}", y.clamp(-1, 1)[None], step, self.config.sample_rate)
