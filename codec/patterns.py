"""Token arrays as generative models want them, each arrangement with its inverse.

Everything takes and gives int64 arrays (..., stages, frames) of indices in 0 … size - 1, as
`Encoded.tokens` holds them; `size` is the codebook size, the same for every stage.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.integer]


def offset(tokens: Tokens, size: int) -> NDArray[np.int64]:
    """One shared vocabulary of stages · size words: stage k counts from k · size; same shape.

    Raises:
        ValueError: a token outside 0 … size - 1.
    """
    _check(tokens, size)
    found: NDArray[np.int64] = tokens.astype(np.int64) + size * np.arange(tokens.shape[-2])[:, None]
    return found


def unoffset(words: Tokens, size: int) -> NDArray[np.int64]:
    """Inverse of `offset`.

    Raises:
        ValueError: a word that does not belong to its stage.
    """
    tokens = words.astype(np.int64) - size * np.arange(words.shape[-2])[:, None]
    _check(tokens, size)
    return tokens


def interleave(tokens: Tokens, size: int) -> NDArray[np.int64]:
    """One sequence, frame after frame and stage after stage, in the shared vocabulary.

    (..., stages, frames) → (..., frames · stages); what a plain autoregressive model predicts.
    """
    words = np.swapaxes(offset(tokens, size), -1, -2)
    return words.reshape(*words.shape[:-2], -1)


def deinterleave(words: Tokens, size: int, stages: int) -> NDArray[np.int64]:
    """Inverse of `interleave`.

    Raises:
        ValueError: not whole frames, or a word out of its place.
    """
    if words.shape[-1] % stages:
        raise ValueError(f"{words.shape[-1]} words are not whole frames of {stages} stages")
    frames = words.reshape(*words.shape[:-1], -1, stages)
    return unoffset(np.swapaxes(frames, -1, -2), size)


def delay(tokens: Tokens, pad: int) -> NDArray[np.int64]:
    """Stage k moved k frames to the right (MusicGen, Copet et al. 2023), `pad` in the corners.

    (..., stages, frames) → (..., stages, frames + stages - 1): one step then predicts all stages at once,
    and each of them has seen the stages before it of its frame.
    """
    stages, frames = tokens.shape[-2:]
    moved = np.full((*tokens.shape[:-1], frames + stages - 1), pad, np.int64)
    for k in range(stages):
        moved[..., k, k : k + frames] = tokens[..., k, :]
    return moved


def undelay(moved: Tokens) -> NDArray[np.int64]:
    """Inverse of `delay`.

    Raises:
        ValueError: fewer steps than stages.
    """
    stages, steps = moved.shape[-2:]
    frames = steps - stages + 1
    if frames < 0:
        raise ValueError(f"{steps} steps are too few for {stages} stages")
    rows = [moved[..., k, k : k + frames] for k in range(stages)]
    return np.stack(rows, axis=-2).astype(np.int64)


def mask(
    tokens: Tokens, word: int, rng: np.random.Generator, share: float | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Tokens with a random part replaced by `word` (MaskGIT, Chang et al. 2022), and which they are.

    Args:
        tokens: (..., stages, frames).
        word: the index that stands for "hidden", such as the codebook size.
        rng: source of the choice.
        share: of the tokens to hide; when None drawn as the cosine schedule does, cos(π/2 · u).
    """
    part = math.cos(math.pi / 2 * rng.random()) if share is None else share
    hidden = np.zeros(tokens.size, np.bool_)
    hidden[rng.permutation(tokens.size)[: math.ceil(part * tokens.size)]] = True
    chosen = hidden.reshape(tokens.shape)
    return np.where(chosen, word, tokens).astype(np.int64), chosen


def unmask(masked: Tokens, hidden: NDArray[np.bool_], filled: Tokens) -> NDArray[np.int64]:
    """Masked tokens with the hidden ones taken from `filled`; inverse of `mask` when they are right."""
    found: NDArray[np.int64] = np.where(hidden, filled, masked).astype(np.int64)
    return found


def _check(tokens: Tokens, size: int) -> None:
    if tokens.size and (int(tokens.min()) < 0 or int(tokens.max()) >= size):
        raise ValueError(f"tokens must be in 0 … {size - 1}")
