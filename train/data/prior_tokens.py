"""Tokens that a prior for sound learns from: of random crops, made once and kept, or of token shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fsqcodec.audio.model import AudioModel
from fsqcodec.checkpoints import token_hash
from fsqcodec.errors import ConfigError, ModelError
from fsqcodec.quantization.residual_fsq import ResidualFSQ
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from ..config.prior import PriorConfig
from ..task import Notify
from .audio import Crops
from .token_shards import read_shard, shards_of


class TokenPieces(Dataset[dict[str, Tensor]]):
    """Random pieces; item i, `{"digits": int64 (frames, stages, d)}`, depends on the seed and on i alone.

    Args:
        tokens: int16 (pieces, frames, stages).
        quantizer: what the tokens are of.
        batch: items of a global batch.
        seed: of which pieces are drawn.
    """

    def __init__(self, tokens: Tensor, quantizer: ResidualFSQ, batch: int, seed: int) -> None:
        self.tokens, self.quantizer, self.batch, self.seed = tokens, quantizer, batch, seed

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, row = divmod(index, self.batch)
        rows = np.random.default_rng((self.seed, number)).integers(len(self.tokens), size=self.batch)
        return {"digits": self.quantizer.stage_digits(self.tokens[rows[row]].long())}


def prior_tokens(config: PriorConfig, codec: AudioModel, notify: Notify) -> Tensor:
    """Tokens int16 (pieces, frames, stages); the run's folder keeps those of crops as `tokens.safetensors`.

    Args:
        config: the run.
        codec: whose tokens.
        notify: called with lines about what is being made.

    Raises:
        ConfigError: there are no data, or the kept tokens are another model's.
        ModelError: shards hold tokens of another model, or not all stages.
    """
    kept, made_by = Path(config.out) / "tokens.safetensors", token_hash(codec).hex()
    if kept.exists():
        with safe_open(kept, "pt") as file:
            if (file.metadata() or {}).get("model") != made_by:
                raise ConfigError(
                    f"{kept}: tokens of another model than {config.prior_of}; "
                    "choose another out, or remove the folder"
                )
            tokens: Tensor = file.get_tensor("tokens")
            return tokens
    if config.shards:
        return _of_shards(config, codec)
    notify(f"making tokens: {config.hours:g} h")
    tokens = _of_crops(config, codec, notify)
    kept.parent.mkdir(parents=True, exist_ok=True)
    save_file({"tokens": tokens}, kept.with_suffix(".part"), {"model": made_by})
    kept.with_suffix(".part").replace(kept)
    return tokens


@torch.no_grad()
def _of_crops(config: PriorConfig, codec: AudioModel, notify: Notify) -> Tensor:
    """Tokens of `hours` of augmented crops."""
    rate, samples = codec.config.sample_rate, config.frames * codec.config.frame
    count = round(config.hours * 3600 * rate / samples)
    crops = Crops(config.data, rate, samples, codec.quantizer.stages, 0.0, config.seed, notify)
    pieces = []
    for i in range(0, count, 8):
        audio = torch.stack([crops[j]["audio"] for j in range(i, min(i + 8, count))])
        pieces.append(codec.quantizer.encode(codec.encoder(audio)).to(torch.int16))
    return torch.cat(pieces)


def _of_shards(config: PriorConfig, codec: AudioModel) -> Tensor:
    """Tokens of shards, `hours` of them at most, in an order that depends on the seed."""
    made_by, stages = token_hash(codec).hex(), codec.quantizer.stages
    most = round(config.hours * 3600 * codec.config.frame_rate / config.frames)
    shards, pieces = shards_of(config.shards), []
    for number in np.random.default_rng(config.seed).permutation(len(shards)):
        for item in read_shard(shards[number]):
            if item.model_hash != made_by or item.encoded.tokens.shape[1] != stages:
                raise ModelError(f"{shards[number]}: not all stages of the tokens of {config.prior_of}")
            for stream in torch.from_numpy(item.encoded.tokens.astype(np.int16)):
                whole = stream.shape[1] // config.frames * config.frames
                pieces += list(stream[:, :whole].T.unflatten(0, (-1, config.frames)))
        if len(pieces) >= most:
            break
    if not pieces:
        raise ConfigError(f"{config.shards}: nothing as long as {config.frames} latent frames")
    return torch.stack(pieces[:most])
