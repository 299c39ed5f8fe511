"""Scores of a model on clips: SI-SDR and mel distance always, PESQ where the package is installed."""

from __future__ import annotations

import numpy as np
import torch
from fsqcodec.audio.model import AudioConfig, AudioModel
from fsqcodec.media import AudioReader
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from .data import list_media
from .metrics import pesq_wideband, si_sdr


class Validation:
    """Mean scores over clips, float32 (n,) each, at the full rate, a half, a quarter and an eighth of the stages."""

    def __init__(self, clips: list[Tensor], config: AudioConfig) -> None:
        self.config, self.clips = config, clips

    @classmethod
    def of_media(cls, media: str, config: AudioConfig, seconds: float = 6.0) -> Validation:
        """The first seconds of every file of a folder or glob, mono, at the model's rate."""
        clips = []
        for file in list_media(media):
            with AudioReader(file, config.sample_rate) as reader:
                mono = torch.from_numpy(reader.read().mean(axis=0))
            clips.append(mono[: int(seconds * config.sample_rate)])
        return cls(clips, config)

    @torch.no_grad()
    def reconstruct(self, model: AudioModel, clip: Tensor, stages: int) -> Tensor:
        """A clip (N,) through the first `stages` stages."""
        frame = self.config.frame
        padded = torch.nn.functional.pad(clip, (0, -len(clip) % frame + frame * -(-self.config.lag // frame)))
        device = next(model.parameters()).device
        y, _, _ = model(padded[None].to(device), torch.tensor([stages], device=device))
        return y[0, : len(clip)].cpu()

    def score(self, model: AudioModel) -> dict[str, float]:
        """`si_sdr_N` in dB and `pesq_N` for N stages, means over the clips."""
        model.eval()
        full = model.quantizer.stages
        scores: dict[str, float] = {}
        for stages in (full, full // 2, full // 4, full // 8):
            pairs = [(self.reconstruct(model, clip, stages), clip) for clip in self.clips]
            scores[f"si_sdr_{stages}"] = float(np.mean([si_sdr(y, x) for y, x in pairs]))
            found = [pesq_wideband(y, x, self.config.sample_rate) for y, x in pairs]
            if any(f is not None for f in found):
                scores[f"pesq_{stages}"] = float(np.mean([f for f in found if f is not None]))
        return scores

    def write_samples(self, model: AudioModel, writer: SummaryWriter, step: int) -> None:
        """Two reconstructed clips to TensorBoard."""
        for i, clip in enumerate(self.clips[:2]):
            y = self.reconstruct(model, clip, model.quantizer.stages)
            writer.add_audio(f"clip{i}", y.clamp(-1, 1)[None], step, self.config.sample_rate)
