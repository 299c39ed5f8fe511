"""A run of the music model against Opus: python -m fsqcodec.train.music.assess RUN/last.pt CLIPS OPUS.jsonl [...]

Bits are ideal code lengths, of whole clips, with nothing for headers and packets; Zimtohrli distances are means of left
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
from fsqcodec.music.rdo import choose_integers
from fsqcodec.music.reconstruct import dequantize
from fsqcodec.music.transform import LappedTransform
from torch import Tensor, nn

from .against_opus import Point, bd_rate, distance
from .coding import band_of_place, code
from .prior_network import PriorNetwork
from .rule import Floats

_TYPE_BITS = 0.6
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
    """Codes clips by float networks."""

    def __init__(self, model: MusicModel, prior: PriorNetwork, worth: float = 0.0) -> None:
        self.model, self.prior, self.worth = model, prior, worth
        self.transform, self.bands = LappedTransform("vorbis"), Bands()

    @torch.inference_mode()
    def __call__(self, samples: Floats, knob: float) -> Outcome:
        """Code one clip, (n, 2), at a knob in dB."""
        left, right = torch.from_numpy(np.ascontiguousarray(samples.T))
        both = torch.stack((left + right, left - right)) * 0.5**0.5
        types = choose_blocks(both, knob, self.transform, self.bands)[None]
        found = self.transform(both, types)[None].transpose(1, 2)
        levels = self.bands.levels(found, types[..., None])
        at = torch.tensor([knob])
        coded = code(self.model, self.prior, self.bands, found[..., :CODED], levels, types, at)
        bits = coded.coefficient_bits
        if self.worth:
            steps = self.bands.spread(coded.steps, types[..., None])
            scaled = (found[..., :CODED] / steps)[0].numpy()
            chosen, total = choose_integers(
                scaled, types[0].to(torch.uint8).numpy(), coded.scales[0].numpy(), band_of_place().numpy(),
                self.prior.theta_arrays(), self.worth,
            )  # fmt: skip
            coded.integers, bits = torch.from_numpy(chosen)[None], torch.tensor(total)
        noise = torch.rand(coded.integers.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
        decoded = dequantize(coded.integers, coded.steps, coded.side, types, self.bands, noise)
        mid, side = self.transform.inverse(decoded[0].transpose(0, 1), types, both.shape[-1])
        out = torch.stack((mid + side, mid - side), -1) * 0.5**0.5
        seconds = len(samples) / 48

        def kbps(bits: Tensor) -> float:
            return float(bits.sum()) / seconds

        return Outcome(
            out.numpy(),
            kbps(bits),
            kbps(coded.side_bits) + _TYPE_BITS * types.numel() / seconds,
        )


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("opus", type=Path, nargs="+")
    parser.add_argument("--knobs", default="-22,-17,-12,-7,-2")
    parser.add_argument("--every", type=int, default=1, help="take every n-th clip")
    parser.add_argument(
        "--worth", type=float, default=0.0, help="bits of a squared step in rounding; 0: rounds plainly"
    )
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    codec = Codec(*load(chosen.checkpoint), chosen.worth)
    files = sorted(chosen.clips.glob("*.flac"))[:: chosen.every]
    theirs: dict[str, list[Point]] = {}
    for path in chosen.opus:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            theirs.setdefault(row["clip"], []).append((row["kbps"], row["dist"]))
    knobs = [float(knob) for knob in chosen.knobs.split(",")]
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
        print(f"knob {knob:+.0f}: {rate:.1f} kbit/s, side {side:.2f}, distance {far:.5f}", flush=True)
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
