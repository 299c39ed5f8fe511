"""Fitting the learned prior to the tokens of a finished codec: floats first, then with quantization in the loop.

A run is a folder as in `loop`: `tokens.safetensors` (made once), `last.pt` (to resume from) and
`model.safetensors`, the codec with its prior in integers, ready to ship.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from fsqcodec.audio.chunked import StreamEncoder
from fsqcodec.audio.networks import TorchNetworks
from fsqcodec.audio.prior import Prior
from fsqcodec.audio.tokens import STAGES_PER_LAYER
from fsqcodec.checkpoints import audio_weights, find_model, read_metadata, save_model, token_hash
from fsqcodec.entropy.static import StaticTables
from fsqcodec.errors import ConfigError, ModelError
from fsqcodec.media.audio import AudioReader
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .config import PriorConfig
from .corpus import read_shard, shards_of
from .data import Crops
from .items import list_media
from .loop import Trainer, append_row
from .precision import settle_precision
from .prior import PriorNetwork, code_lengths


class PriorTrainer:
    """One run; `run` goes from the last checkpoint to the configured number of steps.

    Batch n depends on the seed and on n alone, and every process takes its rows of it.
    """

    def __init__(self, config: PriorConfig, notify: Callable[[str], None] = print) -> None:
        config = replace(config, mixed_precision=settle_precision(config.mixed_precision))
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.out = config, Path(config.out)
        self.clips = list_media(config.validate) if config.validate else []  # now, not after hours
        self.accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(), mixed_precision=config.mixed_precision
        )
        self.main = self.accelerator.is_main_process
        self.notify: Callable[[str], None] = notify if self.main else lambda _: None
        torch.manual_seed(config.seed)
        self.codec = audio_weights(config.prior_of).model.eval()
        self.quantizer = self.codec.quantizer
        with self.accelerator.main_process_first():
            self.tokens = self._tokens()
        network = PriorNetwork(self.quantizer, STAGES_PER_LAYER, config.width)
        if config.start:
            network.load_state_dict(load_file(config.start))
        optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, betas=(0.9, 0.98))
        self.network, self.optimizer = self.accelerator.prepare(network, optimizer)
        self.step, self.seconds = 0, 0.0
        if (self.out / "last.pt").exists():
            self._resume()

    def _bare(self) -> PriorNetwork:
        network: PriorNetwork = self.accelerator.unwrap_model(self.network)
        return network

    @torch.no_grad()
    def _tokens(self) -> Tensor:
        """Tokens int16 (pieces, frames, stages) of random pieces of the data, made once and kept."""
        config, place = self.config, self.out / "tokens.safetensors"
        made_by = token_hash(self.codec).hex()
        if place.exists():
            with safe_open(place, "pt") as kept:
                if (kept.metadata() or {}).get("model") != made_by:
                    raise ConfigError(
                        f"{place}: tokens of another model than {config.prior_of}; choose another out, or remove the folder"
                    )
                tokens: Tensor = kept.get_tensor("tokens")
                return tokens
        if config.shards:
            return self._pieces_of_shards()
        rate, frame = self.codec.config.sample_rate, self.codec.config.frame
        pieces = round(config.hours * 3600 * rate / (config.frames * frame))
        crops = Crops(config.data, rate, config.frames * frame, self.quantizer.stages, 0.0, config.seed,
                      self.notify)  # fmt: skip
        self.notify(f"making tokens: {config.hours:g} h")
        made = []
        for i in range(0, pieces, 8):
            audio = torch.stack([crops[j]["audio"] for j in range(i, min(i + 8, pieces))])
            made.append(self.quantizer.encode(self.codec.encoder(audio)).to(torch.int16))
        tokens = torch.cat(made)
        self.out.mkdir(parents=True, exist_ok=True)
        save_file({"tokens": tokens}, place.with_suffix(".part"), {"model": made_by})
        place.with_suffix(".part").replace(place)
        return tokens

    def _pieces_of_shards(self) -> Tensor:
        """The same of token shards, `hours` of them at most, in an order that depends on the seed."""
        config, found, made_by = self.config, [], token_hash(self.codec).hex()
        most = round(config.hours * 3600 * self.codec.config.frame_rate / config.frames)
        shards = shards_of(config.shards)
        for number in np.random.default_rng(config.seed).permutation(len(shards)):
            for item in read_shard(shards[number]):
                if item.model_hash != made_by or item.encoded.tokens.shape[1] != self.quantizer.stages:
                    raise ModelError(f"{shards[number]}: not all stages of the tokens of {config.prior_of}")
                for stream in torch.from_numpy(item.encoded.tokens.astype(np.int16)):
                    whole = stream.shape[1] // config.frames * config.frames
                    found += list(stream[:, :whole].T.unflatten(0, (-1, config.frames)))
            if len(found) >= most:
                break
        if not found:
            raise ConfigError(f"{config.shards}: nothing as long as {config.frames} latent frames")
        return torch.stack(found[:most])

    def _batch(self) -> Tensor:
        """Digits int64 (B, frames, stages, d) of this process's rows of batch number `step`."""
        config = self.config
        rng = np.random.default_rng((config.seed, self.step))
        rows = rng.integers(len(self.tokens), size=config.batch)
        mine = torch.from_numpy(rows[self.accelerator.process_index :: self.accelerator.num_processes])
        return self.quantizer.stage_digits(self.tokens[mine].long()).to(self.accelerator.device)

    def train_step(self) -> float:
        """One optimizer step; returns the bits a digit."""
        config = self.config
        if self.step == round(config.quantize_from * config.steps):
            self._bare().quantize()
        rate = config.lr * min(1.0, (self.step + 1) / 100) * (1 - self.step / config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        digits = self._batch()
        # Quantized weights need all bits of float32: bf16 has as many as the weights themselves.
        with torch.autocast(digits.device.type, torch.bfloat16, enabled=self._fast()):
            logits = self.network(digits)
        loss = code_lengths(logits, digits).mean()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return float(self.accelerator.reduce(loss.detach(), "mean"))

    def _fast(self) -> bool:
        return self.config.mixed_precision == "bf16" and not self._bare().scales

    def run(self, progress: Callable[[int, int, dict[str, float]], None] | None = None) -> None:
        """Train to the end, then write the model with its prior."""
        config, mark, saved, bits = self.config, time.monotonic(), time.monotonic(), []
        fixed = float(np.log2(self.quantizer.group_levels).mean())
        while self.step < config.steps:
            bits.append(self.train_step())
            if progress:
                progress(self.step, config.steps, {"bits": bits[-1], "saved": 1 - bits[-1] / fixed})
            if self.step % 100 == 0 or self.step == config.steps:
                now = time.monotonic()
                self.seconds, mark = self.seconds + now - mark, now
                self._log(float(np.mean(bits)), fixed)
                bits = []
            if time.monotonic() - saved > 60 * config.save_minutes:
                self.save()
                saved = time.monotonic()
        self.save()
        if self.main:
            self.finish()

    def _log(self, bits: float, fixed: float) -> None:
        if not self.main:
            return
        row = {"step": self.step, "hours": round(self.seconds / 3600, 4), "bits": round(bits, 5),
               "saved": round(1 - bits / fixed, 5)}  # fmt: skip
        append_row(self.out / "log.csv", row)

    def save(self) -> None:
        """Write the checkpoint."""
        if not self.main:
            return
        state = {"network": self._bare().state_dict(), "optimizer": self.optimizer.state_dict(),
                 "scales": self._bare().scales, "step": self.step, "seconds": self.seconds}  # fmt: skip
        torch.save(state, self.out / "last.pt.part")
        (self.out / "last.pt.part").replace(self.out / "last.pt")

    def _resume(self) -> None:
        state = torch.load(self.out / "last.pt", map_location="cpu", weights_only=True)
        self._bare().load_state_dict(state["network"])
        self._bare().scales = state["scales"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.notify(f"resumed {self.out / 'last.pt'} at step {self.step}")

    def finish(self) -> None:
        """Export to integers, score on the validation clips, and write `model.safetensors`."""
        network = self._bare().eval()
        if not network.scales:
            network.quantize()
        prior = Prior(network.export(), self.quantizer, STAGES_PER_LAYER, finalise=True)
        tables = StaticTables.estimate(self.tokens.flatten(0, 1).long(), self.quantizer)
        metadata = read_metadata(find_model(self.config.prior_of))
        metadata["prior"] = {"steps": self.step, "machine_hours": round(self.seconds / 3600, 2),
                             "token_hours": self.config.hours}  # fmt: skip
        if self.clips:
            metadata["prior"]["saved"] = self.score(prior)
            self.notify(f"bits saved on {self.config.validate}: {metadata['prior']['saved']}")
        save_model(self.out / "model.safetensors", self.codec, metadata, tables, prior)
        self.notify(f"wrote {self.out / 'model.safetensors'}")

    def score(self, prior: Prior) -> dict[str, float]:
        """Share of the fixed-length bits saved on the validation clips, at the full rate and its parts."""
        stages, config = self.quantizer.stages, self.config
        spent, frames = np.zeros(stages), 0
        for file in self.clips:
            encoder = StreamEncoder(TorchNetworks(self.codec))
            with AudioReader(file, self.codec.config.sample_rate) as reader:
                tokens = np.concatenate([encoder.push(reader.read().mean(axis=0)), encoder.flush()])
            for start in range(0, len(tokens), config.frames):
                spent += prior.bits(tokens[start : start + config.frames]).sum(0)
            frames += len(tokens)
        fixed = frames * self.quantizer.bits
        parts: dict[str, int] = {"full": stages, "half": stages // 2, "quarter": stages // 4}
        return {name: round(float(1 - spent[:n].sum() / (fixed * n)), 4) for name, n in parts.items()}


def trainer_of(config: Any, notify: Callable[[str], None] = print) -> Any:
    """The trainer that a configuration asks for."""
    return PriorTrainer(config, notify) if isinstance(config, PriorConfig) else Trainer(config, notify)
