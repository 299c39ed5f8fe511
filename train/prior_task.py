"""Fitting the learned prior to the tokens of a finished model: floats first, then quantization in the loop.

The run's `model.safetensors` is the codec with its prior in integers, ready to ship.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fsqcodec.audio.chunked import StreamEncoder
from fsqcodec.audio.networks import TorchNetworks
from fsqcodec.audio.prior import Prior
from fsqcodec.audio.tokens import STAGES_PER_LAYER
from fsqcodec.checkpoints import audio_weights, find_model, read_metadata, save_model
from fsqcodec.entropy.static import StaticTables
from fsqcodec.media.audio import AudioReader
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from .audio.prior import PriorNetwork
from .config.prior import PriorConfig
from .data.manifest import list_media
from .data.prior_tokens import TokenPieces, prior_tokens
from .rate import code_lengths
from .task import Batch, Notify, Task, Validator, Weigh


class PriorTask(Task):
    """See `task.Task`.

    Args:
        config: the run.
        device: not used; the trainer moves the network to it.
        notify: called with lines about what is being made.

    Raises:
        ConfigError: there are no data, or the run's folder holds tokens of another model.
        ModelError: the model, or shards of its tokens, do not fit.
    """

    unit = "frames"
    workers = 0  # pieces are rows of a tensor

    def __init__(self, config: PriorConfig, device: torch.device, notify: Notify) -> None:
        self.config, self.notify = config, notify
        self.clips = list_media(config.validate) if config.validate else []  # now, not after hours
        self.codec = audio_weights(config.prior_of).model.eval()
        self.quantizer = self.codec.quantizer
        self.tokens = prior_tokens(config, self.codec, notify)
        self.data = TokenPieces(self.tokens, self.quantizer, config.batch, config.seed)
        self.model = PriorNetwork(self.quantizer, STAGES_PER_LAYER, config.width)
        if config.start:
            self.model.load_state_dict(load_file(config.start))
        self.auxiliary: dict[str, nn.Module] = {}
        self.per_item = float(config.frames)
        self.facts = {"token_hours": config.hours}
        self.origin = None
        self.fixed = float(np.log2(self.quantizer.group_levels).mean())
        """Bits a digit of fixed-length codes."""

    def optimizers(self, dtype: torch.dtype, capturable: bool) -> list[Optimizer]:
        """AdamW."""
        optim = self.config.optim
        return [torch.optim.AdamW(self.model.parameters(), lr=optim.lr, betas=optim.betas, fused=True)]

    def begin(self, progress: float) -> None:
        """From a share of the steps on, the network computes in the steps of its integers."""
        if progress >= self.config.quantize_from and not self.model.scales:
            self.model.quantize()

    def loss(
        self, model: Any, auxiliary: dict[str, Any], batch: Batch, weigh: Weigh, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Bits a digit."""
        digits = batch["digits"]
        bits = code_lengths(model(digits), digits).mean()
        return bits, {"bits": bits, "saved": 1 - bits / self.fixed}

    def validator(self) -> Validator | None:
        """None: bits are counted by the integers that are published."""
        return None

    def publish(self, path: Path, model: PriorNetwork, provenance: dict[str, Any], last: bool) -> None:
        """Write the codec with its prior in integers; not before they are trained, or the run stops.

        Its bits on the validation clips are counted in the end.
        """
        if not model.scales and not last:
            return
        network = copy.deepcopy(model)
        if not network.scales:
            network.quantize()
        prior = Prior(network.export(), self.quantizer, STAGES_PER_LAYER, finalise=True)
        metadata = read_metadata(find_model(self.config.prior_of))
        metadata["prior"] = provenance
        if self.clips and last:
            metadata["prior"] |= {"saved": self.saved(prior)}
            self.notify(f"bits saved on {self.config.validate}: {metadata['prior']['saved']}")
        tables = StaticTables.estimate(self.tokens.flatten(0, 1).long(), self.quantizer)
        save_model(path, self.codec, metadata, tables, prior)
        if last:
            self.notify(f"wrote {path}")

    def saved(self, prior: Prior) -> dict[str, float]:
        """Share of the fixed-length bits saved on the validation clips, at full, half and quarter rate."""
        stages, frames = self.quantizer.stages, self.config.frames
        spent, count = np.zeros(stages), 0
        for file in self.clips:
            encoder = StreamEncoder(TorchNetworks(self.codec))
            with AudioReader(file, self.codec.config.sample_rate) as reader:
                tokens = np.concatenate([encoder.push(reader.read().mean(axis=0)), encoder.flush()])
            for start in range(0, len(tokens), frames):
                spent += prior.bits(tokens[start : start + frames]).sum(0)
            count += len(tokens)
        fixed = count * self.quantizer.bits
        parts = {"full": stages, "half": stages // 2, "quarter": stages // 4}
        return {name: round(float(1 - spent[:n].sum() / (fixed * n)), 4) for name, n in parts.items()}

    def state_dict(self) -> dict[str, Any]:
        """The scales of the quantized network, by parameter."""
        return {"scales": dict(self.model.scales)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The opposite of `state_dict`."""
        self.model.scales = dict(state["scales"])
