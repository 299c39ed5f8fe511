"""The claims of FSQ, measured: the same small codec with four quantizers, trained for the same steps at equal
bitrates.

At b bits a latent frame: `fsq`, one code of 2^b (levels of Mentzer et al. 2023, table 1); `rfsq`, two stages
of 2^(b/2); `vq`, one learned codebook of 2^b vectors, moving averages, k-means start and dead codes replaced
(van den Oord et al. 2017; Zeghidour et al. 2021); `rvq`, two stages of 2^(b/2) such. The learned codebooks
are those of lucidrains' `vector-quantize-pytorch`.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from fsqcodec.audio.model import AudioConfig, Decoder, Encoder
from fsqcodec.losses.reconstruction import ReconstructionLoss
from fsqcodec.quantization.fsq import FSQ, PRESETS
from fsqcodec.quantization.residual_fsq import ResidualFSQ
from torch import Tensor, nn

from ..config.audio import DataConfig
from ..config.base import Source
from ..data.audio import Crops
from ..task import Notify
from .metrics import si_sdr

NAMES = ("fsq", "rfsq", "vq", "rvq")
BITS = (8, 10, 12, 14)
_STAGE_LEVELS = {4: (4, 4), 5: (8, 4), 6: (8, 8), 7: (8, 4, 4)}
"""Levels of a stage of 4 … 7 bits."""
_VECTOR = 32
"""Dimensions of a learned codebook's vectors."""
_CONFIG = AudioConfig(fine_channels=64, coarse_channels=96, encoder_blocks=(2, 1), decoder_blocks=(2, 1))
_WEIGHTS = {
    "waveform": 0.2,
    "spectrum": 2,
    "mel": 2,
    "loudness": 1,
    "disturbance": 0,
    "similarity": 0,
    "harmonics": 0,
    "rumble": 0,
}
"""Fewer than a thousand bits a second carry envelopes: no network of this size follows waveforms so."""
_BATCH, _WARMUP, _RATE, _CLIP = 4, 50, 2e-3, 1.0


class _Scalar(nn.Module):
    """FSQ or residual FSQ: values, indices (B, T, n) and no loss of its own."""

    def __init__(self, quantizer: FSQ | ResidualFSQ, channels: int) -> None:
        super().__init__()
        self.quantizer, self.channels = quantizer, channels

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, tokens = self.quantizer(z)
        return values, tokens.reshape(*z.shape[:2], -1), z.new_zeros(())


class _Learned(nn.Module):
    """VQ or residual VQ: the same, with the commitment loss."""

    def __init__(self, quantizer: nn.Module) -> None:
        super().__init__()
        self.quantizer, self.channels = quantizer, _VECTOR

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, tokens, loss = self.quantizer(z)
        return values, tokens.reshape(*z.shape[:2], -1), loss.sum()


def build(name: str, bits: int) -> _Scalar | _Learned:
    """The quantizer of a name at `bits` bits a latent frame.

    Raises:
        ValueError: there is no such quantizer.
    """
    settings: dict[str, Any] = {"decay": 0.99, "kmeans_init": True, "threshold_ema_dead_code": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few levels in a channel are the point here
        match name:
            case "fsq":
                return _Scalar(FSQ.preset(2**bits), len(PRESETS[2**bits]))
            case "rfsq":
                levels = _STAGE_LEVELS[bits // 2]
                return _Scalar(ResidualFSQ(levels, 1, 2), len(levels))
            case "vq":
                from vector_quantize_pytorch import VectorQuantize

                return _Learned(VectorQuantize(_VECTOR, 2**bits, **settings))
            case "rvq":
                from vector_quantize_pytorch import ResidualVQ

                return _Learned(
                    ResidualVQ(dim=_VECTOR, num_quantizers=2, codebook_size=2 ** (bits // 2), **settings)
                )
    raise ValueError(f"no quantizer {name!r}; there are {', '.join(NAMES)}")


def study(source: str, validate: str, steps: int, notify: Notify, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Train and measure every quantizer at every size; a row of results each.

    Args:
        source: folder or glob of speech to train on.
        validate: folder or glob of other speech to measure by.
        steps: of four crops of a second each.
        notify: called with lines for people.
        seed: of weights and crops, the same for all.
    """
    samples = _CONFIG.sample_rate // _CONFIG.frame * _CONFIG.frame + _CONFIG.frame
    train, other = (
        Crops(
            DataConfig([Source(media)], crop=1.0, pitch=0, eq=0),
            _CONFIG.sample_rate,
            samples,
            1,
            0.0,
            seed,
            notify,
        )
        for media in (source, validate)
    )
    for bits in BITS:
        for name in NAMES:
            yield _measured(name, bits, train, other, steps, seed)


def _measured(name: str, bits: int, train: Crops, other: Crops, steps: int, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    quantizer = build(name, bits)
    encoder = Encoder(_CONFIG, quantizer.channels)
    decoder = Decoder(_CONFIG, quantizer.channels, 1)
    terms = ReconstructionLoss(_CONFIG.sample_rate)
    parts = nn.ModuleList([encoder, quantizer, decoder])
    optimizer = torch.optim.AdamW(parts.parameters(), lr=_RATE, betas=(0.8, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min(1, (i + 1) / _WARMUP) * (1 - i / steps)
    )

    def reconstruct(audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, tokens, commitment = quantizer(encoder(audio))
        y = decoder(values, torch.zeros(len(audio), 1, dtype=torch.int64))[:, _CONFIG.lag :]
        return y, tokens, commitment

    with torch.no_grad():  # latents begin spread over the grid, as codebooks begin at k-means
        z = encoder(_batch(train, 0)).flatten(0, 1)
        encoder.out.weight.div_(z.std(0)[:, None])
        encoder.out.bias.sub_(z.mean(0)).div_(z.std(0))
    begin = time.perf_counter()
    for step in range(steps):
        audio = _batch(train, step)
        y, _, commitment = reconstruct(audio)
        losses = terms(y, audio[:, : y.shape[1]])
        loss = sum((_WEIGHTS[key] * term.mean() for key, term in losses.items()), commitment)
        loss.backward()
        nn.utils.clip_grad_norm_(parts.parameters(), _CLIP)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    seconds = (time.perf_counter() - begin) / steps
    parts.eval()
    with torch.no_grad():
        pairs = [(reconstruct(audio)[0], audio) for audio in (_batch(other, i) for i in range(32))]
        scores = [{k: float(v.mean()) for k, v in terms(y, x[:, : y.shape[1]]).items()} for y, x in pairs]
        sdr = [si_sdr(y, x[: len(y)]) for ys, xs in pairs for y, x in zip(ys, xs, strict=True)]
        tokens = torch.cat(
            [quantizer(encoder(_batch(train, steps + i)))[1].flatten(0, 1) for i in range(500)]
        )
    return {
        "quantizer": name,
        "bits": bits,
        "stages": tokens.shape[-1],
        "codes": _codes(name, bits),
        "loss": float(np.mean([sum(_WEIGHTS[k] * v for k, v in row.items()) for row in scores])),
        "mel": float(np.mean([row["mel"] for row in scores])),
        "si_sdr": float(np.mean(sdr)),
        **_use(tokens, _codes(name, bits)),
        "memory_kib": sum(t.numel() * t.element_size() for t in quantizer.state_dict().values()) / 1024,
        "quantizer_ms": _quantizer_time(quantizer) * 1000,
        "step_ms": seconds * 1000,
    }


def _codes(name: str, bits: int) -> int:
    """Codes of a stage."""
    if name == "fsq":
        return math.prod(PRESETS[2**bits])
    return 1 << (bits if name == "vq" else bits // 2)


def _use(tokens: Tensor, codes: int) -> dict[str, float]:
    """Use of the codebooks by tokens (n, stages), the mean of the stages."""
    used, perplexity = [], []
    for column in tokens.T:
        share = torch.bincount(column, minlength=codes).double() / len(column)
        share = share[share > 0]
        used.append(len(share) / codes)
        perplexity.append(2 ** float(-(share * share.log2()).sum()))
    return {"utilisation": float(np.mean(used)), "perplexity": float(np.mean(perplexity))}


def _batch(crops: Crops, number: int) -> Tensor:
    return torch.stack([crops[number * _BATCH + i]["audio"] for i in range(_BATCH)])


def _quantizer_time(quantizer: _Scalar | _Learned) -> float:
    """Seconds of the quantizer alone for a batch, forward and backward, in training: the median of 20."""
    quantizer.train()
    z = torch.randn(_BATCH, 50, quantizer.channels, requires_grad=True)
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        values, _, loss = quantizer(z)
        (values.square().mean() + loss).backward()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def to_markdown(rows: list[dict[str, Any]]) -> str:
    """Table of the rows."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "bits a frame": lambda row: str(row["bits"]),
        "quantizer": lambda row: str(row["quantizer"]),
        "codes": lambda row: f"{row['codes']}" + (f" × {row['stages']}" if row["stages"] > 1 else ""),
        "loss": lambda row: f"{row['loss']:.3f}",
        "mel": lambda row: f"{row['mel']:.4f}",
        "SI-SDR dB": lambda row: f"{row['si_sdr']:.2f}",
        "codes used": lambda row: f"{row['utilisation']:.1%}",
        "perplexity": lambda row: f"{row['perplexity']:.0f}",
        "quantizer KiB": lambda row: f"{row['memory_kib']:.1f}",
        "quantizer ms": lambda row: f"{row['quantizer_ms']:.2f}",
        "step ms": lambda row: f"{row['step_ms']:.0f}",
    }
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(cell(row) for cell in columns.values()) + " |" for row in rows]
    return "\n".join(lines) + "\n"
