"""A tiny language model of sound: all stages of a frame at once, by the delay pattern (MusicGen, Copet et al. 2023).

    fsqcodec corpus tokenize '../shared/data/speech/train/gcompris*' --out shards/ --stages 4
    python docs/examples/autoregressive.py shards/ --steps 600 --out spoken.wav

Trains to predict the next step, then goes on for two seconds from the beginning of a held-out word.
"""

from __future__ import annotations

import fsqcodec
import numpy as np
import torch
from fsqcodec.patterns import delay, undelay
from shared import Pieces, TokenTransformer, arguments, write
from torch import Tensor


@torch.no_grad()
def go_on(model: TokenTransformer, begun: Tensor, steps: int, temperature: float = 0.8) -> Tensor:
    """Delayed tokens (stages, T + steps) that begin with `begun`, sampled."""
    found = begun
    for _ in range(steps):
        seen = found[:, -200:]
        logits = model(seen[None])[0, :, -1] / temperature
        found = torch.cat([found, torch.multinomial(logits.softmax(-1), 1)], 1)
    return found


def main() -> None:
    """Train, and speak."""
    parser = arguments(__doc__, "spoken.wav")
    parser.add_argument("--seconds", type=float, default=2.0)
    asked = parser.parse_args()
    torch.manual_seed(0)
    codec = fsqcodec.load(asked.model)
    pieces = Pieces(asked.shards, asked.stages, asked.frames)
    model = TokenTransformer(codec, asked.stages, causal=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(asked.steps):
        moved = torch.from_numpy(delay(pieces.batch(16).numpy(), model.codes))
        logits, wanted = model(moved[..., :-1]), moved[..., 1:]
        known = wanted != model.codes  # the corners of the pattern are not asked for
        loss = torch.nn.functional.cross_entropy(logits[known], wanted[known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step == asked.steps - 1:
            print(
                f"step {step}: {loss / np.log(2):.2f} bits a token of {np.log2(model.codes):.2f}", flush=True
            )
    model.eval()
    begun = torch.from_numpy(delay(pieces.held[0][:, :10], model.codes))[:, :10]
    spoken = go_on(model, begun, round(asked.seconds * codec.frame_rate))
    write(codec, torch.from_numpy(undelay(spoken.numpy())).clamp(max=model.codes - 1), asked.out)
    print(f"wrote {asked.out}")


if __name__ == "__main__":
    main()
