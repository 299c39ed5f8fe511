"""What both examples need: pieces of token shards, and a small transformer over frames of stages."""

from __future__ import annotations

import argparse
from pathlib import Path

import fsqcodec
import numpy as np
import torch
from fsqcodec.train.data.token_shards import read_shard, shards_of
from torch import Tensor, nn


class Pieces:
    """Random pieces of `frames` latent frames from the shards that `fsqcodec corpus tokenize` wrote."""

    def __init__(self, shards: str, stages: int, frames: int, seed: int = 0) -> None:
        found = [
            stream[:stages].astype(np.int64)
            for shard in shards_of(shards)
            for item in read_shard(shard)
            for stream in item.encoded.tokens
            if stream.shape[1] >= frames
        ]
        if not found:
            raise SystemExit(f"{shards}: nothing is as long as {frames} latent frames")
        kept = max(1, len(found) // 20)
        self.held, self.train = found[:kept], found[kept:] or found
        self.frames, self.rng = frames, np.random.default_rng(seed)

    def batch(self, size: int) -> Tensor:
        """Tokens int64 (size, stages, frames)."""
        rows = []
        for _ in range(size):
            stream = self.train[self.rng.integers(len(self.train))]
            start = self.rng.integers(stream.shape[1] - self.frames + 1)
            rows.append(stream[:, start : start + self.frames])
        return torch.from_numpy(np.stack(rows))


class TokenTransformer(nn.Module):
    """Logits (B, stages, T, codes) of tokens (B, stages, T), some of which are `codes`, the word for "hidden".

    Tokens are not embedded by a table of codes: FSQ's implicit codebook already says where a code lies, so a token is
    the values of its digits, through one matrix for each stage.
    """

    def __init__(
        self,
        codec: fsqcodec.Codec,
        stages: int,
        causal: bool,
        width: int = 192,
        layers: int = 4,
        longest: int = 512,
    ) -> None:
        super().__init__()
        quantizer = codec.model.quantizer
        self.codes, self.stages, self.causal = quantizer.codebook_size, stages, causal
        digits = quantizer.stage_digits(torch.arange(self.codes)[:, None])[:, 0]
        values = (2 * digits + 1) / torch.tensor(quantizer.group_levels) - 1
        # The word for "hidden" has no values, and a flag of its own.
        flagged = torch.cat([values, torch.zeros(len(values), 1)], 1)
        self.register_buffer("values", torch.cat([flagged, torch.eye(flagged.shape[1])[-1:]]))
        self.embed = nn.Linear(stages * self.values.shape[1], width)
        self.place = nn.Embedding(longest, width)
        block = nn.TransformerEncoderLayer(
            width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.out = nn.Linear(width, stages * self.codes)

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        steps = tokens.shape[-1]
        x = self.embed(self.values[tokens].permute(0, 2, 1, 3).flatten(2)) + self.place.weight[:steps]
        mask = nn.Transformer.generate_square_subsequent_mask(steps) if self.causal else None
        y = self.out(self.blocks(x, mask=mask, is_causal=self.causal))
        return y.unflatten(-1, (self.stages, self.codes)).transpose(1, 2)


def arguments(text: str | None, out: str) -> argparse.ArgumentParser:
    """What both commands take; `text` explains, `out` is the default of --out."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", help="folder of token shards")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--frames", type=int, default=50, help="latent frames of a piece")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--model", default="speech-24k")
    return parser


def write(codec: fsqcodec.Codec, tokens: Tensor, path: Path) -> None:
    """Sound of tokens (stages, T) as a WAV file."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        samples = codec.model.decode(tokens.T[None])[0]
    soundfile.write(str(path), samples.numpy(), codec.sample_rate)
