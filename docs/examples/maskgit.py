"""A masked transformer over tokens that fills in what is missing (MaskGIT, Chang et al. 2022).

    fsqcodec corpus tokenize '../shared/data/speech/train/gcompris*' --out shards/ --stages 4
    python docs/examples/maskgit.py shards/ --steps 600 --out filled/

Writes a held-out word as it was, with 0.3 s missing, and filled in.
"""

from __future__ import annotations

import fsqcodec
import numpy as np
import torch
from fsqcodec.patterns import mask
from shared import Pieces, TokenTransformer, arguments, write
from torch import Tensor


@torch.no_grad()
def fill(model: TokenTransformer, tokens: Tensor, rounds: int = 8) -> Tensor:
    """Tokens (stages, T) without hidden ones: every round keeps the surest, more and more of them."""
    tokens = tokens.clone()
    total = int((tokens == model.codes).sum())
    for number in range(rounds):
        hidden = tokens == model.codes
        likely = model(tokens[None])[0].softmax(-1)
        found = torch.multinomial(likely.flatten(0, 1), 1).view(tokens.shape)
        sure = likely.gather(-1, found[..., None])[..., 0].masked_fill(~hidden, -1)
        left = int(total * np.cos(np.pi / 2 * (number + 1) / rounds))
        keep = sure.flatten().topk(int(hidden.sum()) - left).indices
        tokens.view(-1)[keep] = found.flatten()[keep]
    return tokens


def main() -> None:
    """Train, and fill a gap."""
    asked = arguments(__doc__, "filled").parse_args()
    torch.manual_seed(0)
    codec, rng = fsqcodec.load(asked.model), np.random.default_rng(0)
    pieces = Pieces(asked.shards, asked.stages, asked.frames)
    model = TokenTransformer(codec, asked.stages, causal=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(asked.steps):
        tokens = pieces.batch(16)
        masked, hidden = mask(tokens.numpy(), model.codes, rng)
        logits = model(torch.from_numpy(masked))[torch.from_numpy(hidden)]
        loss = torch.nn.functional.cross_entropy(logits, tokens[torch.from_numpy(hidden)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0 or step == asked.steps - 1:
            print(
                f"step {step}: {loss / np.log(2):.2f} bits a hidden token of {np.log2(model.codes):.2f}",
                flush=True,
            )
    model.eval()
    word = torch.from_numpy(pieces.held[0][:, : asked.frames])
    gap = slice(asked.frames // 2 - 7, asked.frames // 2 + 8)
    holed = word.clone()
    holed[:, gap] = model.codes
    filled = fill(model, holed)
    silent = word.clone()
    silent[:, gap] = word[:, :1]
    for name, version in {"original": word, "missing": silent, "filled": filled}.items():
        write(codec, version, asked.out / f"{name}.wav")
    print(f"wrote {asked.out}/")


if __name__ == "__main__":
    main()
