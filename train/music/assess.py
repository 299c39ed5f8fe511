"""A run of the music model against Opus: python -m fsqcodec.train.music.assess RUN/last.pt CLIPS OPUS.jsonl [...]

Bytes are those of packets' messages, without their lengths and headers; Zimtohrli distances are means of left
and right. Lines of OPUS.jsonl hold `clip`, `kbps` and `dist` (`against_opus` tells how they are measured).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from fsqcodec.music.codec import MusicCodec
from fsqcodec.music.model import MusicConfig, MusicModel
from fsqcodec.music.prior import MusicPrior
from torch import nn

from .against_opus import Point, bd_rate, distance
from .prior_network import PriorNetwork

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


def integer_codec(model: MusicModel, prior: PriorNetwork) -> MusicCodec:
    """The codec of a checkpoint; a prior that was not trained in its integers' steps loses a little by rounding."""
    if not prior.scales:
        prior.quantize()
    return MusicCodec(model, MusicPrior(prior.export(), finalise=True))


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("opus", type=Path, nargs="+")
    parser.add_argument("--knobs", default="14,21,28,35,42", help="indices")
    parser.add_argument("--every", type=int, default=1, help="take every n-th clip")
    parser.add_argument(
        "--worth", type=float, help="bits of a squared step in rounding; by the knob when not given"
    )
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    codec = integer_codec(*load(chosen.checkpoint))
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
            packets = codec.encode(samples, knob, chosen.worth)
            far = distance(samples, codec.decode(packets, len(samples)))
            whole, side = (
                sum(sizes) * 384 / len(samples)
                for sizes in ([p.size for p in packets], [len(p.side) for p in packets])
            )
            ours[file.stem].append((whole, far))
            total.append((whole, side, far))
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
