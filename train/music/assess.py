"""A run of the music model against Opus: python -m fsqcodec.train.music.assess RUN/last.pt CLIPS OPUS.jsonl [...]

Bits are of whole clips, with nothing for headers and packets; Zimtohrli distances are means of left
and right. Lines of OPUS.jsonl hold `clip`, `kbps` and `dist` (`against_opus` tells how they are measured).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from fsqcodec.music.bands import CODED, Bands
from fsqcodec.music.block_choice import choose_blocks
from fsqcodec.music.model import MusicConfig, MusicModel
from fsqcodec.music.prior import MusicPrior, knob_of
from fsqcodec.music.reconstruct import dequantize, steps_of
from fsqcodec.music.transform import LappedTransform
from torch import nn

from ..prior import code_lengths
from .against_opus import Point, bd_rate, distance
from .prior_network import PriorNetwork
from .rule import Floats

_TYPE_BITS = 0.52
"""A frame, about."""
RANGES = ((12, 16), (16, 24), (24, 36), (16, 48), (48, 80))


def load(path: Path) -> tuple[MusicModel, PriorNetwork]:
    """The averaged networks of a checkpoint."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    config = MusicConfig(**state["shape"])
    both = nn.ModuleDict({"model": MusicModel(config), "prior": PriorNetwork(config)})
    average = {key[7:]: value for key, value in state["average"].items() if key.startswith("module.")}
    both.load_state_dict(average)
    print(f"step {state['step']}")
    return both["model"].eval(), both["prior"].eval()  # type: ignore[return-value]


@dataclass(frozen=True)
class Outcome:
    """What became of a clip."""

    samples: Floats
    """(n, 2)."""
    coefficient_kbps: float
    side_kbps: float

    @property
    def kbps(self) -> float:
        """All of it."""
        return self.coefficient_kbps + self.side_kbps


class Codec:
    """Codes clips by float networks and the integer prior.

    Args:
        model: of the side information.
        prior: rounded to integers here; a network that was not trained so loses a little.
        worth: bits that a squared error of a step is worth in rounding.
        real: count bytes, and decode from them; else ideal code lengths.
    """

    def __init__(self, model: MusicModel, prior: PriorNetwork, worth: float, real: bool = False) -> None:
        if not prior.scales:
            prior.quantize()
        self.model, self.worth, self.real = model, worth, real
        self.network, self.prior = prior, MusicPrior(prior.export(), seal=True)
        self.transform, self.bands = LappedTransform("vorbis"), Bands()

    @torch.inference_mode()
    def __call__(self, samples: Floats, knob: int) -> Outcome:
        """Code one clip, (n, 2), at the index of a knob."""
        left, right = torch.from_numpy(np.ascontiguousarray(samples.T))
        both = torch.stack((left + right, left - right)) * 0.5**0.5
        decibels = torch.tensor([knob_of(knob)])
        types = choose_blocks(both, float(decibels), self.transform, self.bands)[None]
        kinds = types[0].to(torch.uint8).numpy()
        found = self.transform(both, types)[None].transpose(1, 2)
        levels = self.bands.levels(found, types[..., None])
        latents = self.model.encode(levels, types, decibels).round()
        side = self.model.decode(latents, types, decibels)
        scales = self.prior.log_scales(latents[0], types[0], knob)
        steps = steps_of(side, self.bands, decibels)
        scaled = found[..., :CODED] / self.bands.spread(steps, types[..., None])
        integers, bits = self.prior.theta.choose(scaled[0].numpy(), kinds, scales, self.worth)
        if self.real:
            message = self.prior.encode_side(latents[0].int().numpy(), kinds, knob)
            parts = self.prior.encode_integers(integers, kinds, scales)
            again, _, _ = self.prior.decode_side(message, len(kinds))
            assert np.array_equal(again, latents[0].numpy())
            assert np.array_equal(self.prior.decode_integers(*parts, kinds, scales), integers)
            bits, side_bits = 8.0 * sum(map(len, parts)), 8.0 * len(message)
        else:
            logits = self.network.latent_logits(latents, decibels)
            most = self.model.config.most
            side_bits = float(code_lengths(logits, latents.long() + most).sum()) + _TYPE_BITS * types.numel()
        noise = torch.rand((1, *integers.shape), generator=torch.Generator().manual_seed(1)) * 2 - 1
        decoded = dequantize(torch.from_numpy(integers)[None], steps, side, types, self.bands, noise)
        mid, side_channel = self.transform.inverse(decoded[0].transpose(0, 1), types, both.shape[-1])
        out = torch.stack((mid + side_channel, mid - side_channel), -1) * 0.5**0.5
        seconds = len(samples) / 48
        return Outcome(out.numpy(), bits / seconds, side_bits / seconds)


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("opus", type=Path, nargs="+")
    parser.add_argument("--knobs", default="14,21,28,35,42", help="indices")
    parser.add_argument("--every", type=int, default=1, help="take every n-th clip")
    parser.add_argument(
        "--worth", type=float, default=0.0, help="bits of a squared step in rounding; 0: rounds plainly"
    )
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    codec = Codec(*load(chosen.checkpoint), chosen.worth, chosen.real)
    files = sorted(chosen.clips.glob("*.flac"))[:: chosen.every]
    theirs: dict[str, list[Point]] = {}
    for path in chosen.opus:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            theirs.setdefault(row["clip"], []).append((row["kbps"], row["dist"]))
    knobs = [int(knob) for knob in chosen.knobs.split(",")]
    ours: dict[str, list[Point]] = {file.stem: [] for file in files}
    for knob in knobs:
        total = []
        for file in files:
            samples = soundfile.read(file, dtype="float32")[0]
            made = codec(samples, knob)
            far = distance(samples, made.samples)
            ours[file.stem].append((made.kbps, far))
            total.append((made.kbps, made.side_kbps, far))
        rate, side, far = np.mean(total, 0)
        print(f"knob {knob}: {rate:.1f} kbit/s, side {side:.2f}, distance {far:.5f}", flush=True)
    names = list(ours)
    ranked = [sorted(theirs[name]) for name in names]
    means = [
        [tuple(map(float, row)) for row in np.mean(table, 0)] for table in ([ours[n] for n in names], ranked)
    ]
    for low, high in RANGES:
        each = [bd_rate(ours[name], theirs[name], low, high) for name in names]
        mean = bd_rate(means[0], means[1], low, high)  # type: ignore[arg-type]
        print(
            f"BD {low}-{high}: mean curves {mean:+.1f} %, clips {np.nanmean(each):+.1f} %, median {np.nanmedian(each):+.1f} %"
        )
        if (low, high) == (16, 48):
            worst = sorted(zip(each, names, strict=True), key=lambda pair: -np.nan_to_num(pair[0]))
            print("   " + ", ".join(f"{name[:10]} {value:+.0f}" for value, name in worst))


if __name__ == "__main__":
    main()
