"""Muon: momentum for the matrices of hidden layers, made orthogonal before it is applied (Jordan et al.
2024).

All directions of a matrix learn at the same pace, instead of a few that the gradient is full of.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..config.base import OptimConfig

# Polynomials a·x + b·x³ + c·x⁵, each the best for the range of singular values that the one before leaves
# (Polar Express, Amsel et al. 2025), with room for bfloat16 to round upwards: beyond 1 they explode. Together
# they bring 0.003 … 1 to 0.34 … 1.66. Five of them from 0.0003 on trained no better.
_POLYNOMIALS = (
    (8.2193, -23.3377, 16.6268),
    (3.969, -2.8424, 0.5167),
    (3.5319, -2.6511, 0.5302),
)
_MARGIN = 1.02
"""The norm is taken for this much more, for the same reason."""


def hidden_matrices(network: nn.Module) -> list[nn.Parameter]:
    """The trained matrices in a network's blocks: wide on both sides, and neither input nor output."""
    ends = (".widen.weight", ".narrow.weight")
    return [p for name, p in network.named_parameters() if name.endswith(ends) and p.requires_grad]


def orthogonal(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest matrices with orthonormal rows (columns, if those are fewer), roughly.

    Args:
        matrix: what is made orthogonal, float32 (…, m, n).
        dtype: what products are computed in.

    Returns:
        `dtype` (…, m, n).
    """
    tall = matrix.shape[-2] > matrix.shape[-1]
    # Products with a transposed view take twice as long on CPUs.
    x = (matrix.mT if tall else matrix).to(dtype, memory_format=torch.contiguous_format)
    gram = x @ x.mT
    # No singular value is above it, and it is closer than the norm of the matrix itself.
    bound = (torch.linalg.matrix_norm(gram, keepdim=True) * _MARGIN).sqrt().clamp(min=1e-12)
    x = x / bound
    for i, (a, b, c) in enumerate(_POLYNOMIALS):
        gram = x @ x.mT if i else gram / bound**2
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    result: Tensor = x.mT if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """One step for matrices (m, n); steps are as large as AdamW's at the same rate (Liu et al. 2025, section
    2.2).

    Processes that train together share the work, a part of the matrices each, and all have the same result.

    Args:
        matrices: parameters (m, n).
        lr: learning rate; a tensor () where it changes between steps that a CUDA graph replays.
        momentum: share that is kept of the gradients before (Nesterov's).
        weight_decay: as of AdamW.
        dtype: what products are computed in.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float | Tensor,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Apply the gradients."""
        rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        for group in self.param_groups:
            matrices = [matrix for matrix in group["params"] if matrix.grad is not None]
            if not matrices:
                continue
            sizes = [matrix.numel() for matrix in matrices]
            # One buffer for all, which processes sum up: each fills in the directions of its own matrices.
            buffer = torch.zeros(sum(sizes), dtype=self.dtype, device=matrices[0].device)
            directions = [
                part.view_as(matrix) for matrix, part in zip(matrices, buffer.split(sizes), strict=True)
            ]
            momenta = [self._momentum(matrix) for matrix in matrices]
            grads = [matrix.grad for matrix in matrices if matrix.grad is not None]
            # Every process keeps all momenta, so that any of them can write the checkpoint.
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            ahead = torch._foreach_lerp(grads, momenta, group["momentum"])
            by_shape: dict[torch.Size, list[int]] = {}
            for i in range(rank, len(matrices), processes):
                by_shape.setdefault(matrices[i].shape, []).append(i)
            for own in by_shape.values():
                stacked = orthogonal(torch.stack([ahead[i] for i in own]), self.dtype)
                for i, direction in zip(own, stacked, strict=True):
                    directions[i].copy_(direction)
            if processes > 1:
                dist.all_reduce(buffer)
            for matrix, direction in zip(matrices, directions, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.sub_(direction.float() * (0.2 * group["lr"] * max(matrix.shape) ** 0.5))

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum"]
        return momentum


def muon_and_adamw(
    model: nn.Module,
    auxiliary: Iterable[nn.Module],
    config: OptimConfig,
    dtype: torch.dtype,
    capturable: bool,
) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices of a model, AdamW for all else; vectors and biases do not decay.

    Args:
        model: the networks of a codec.
        auxiliary: networks that are trained alongside, by AdamW.
        config: rates, momenta and decay.
        dtype: what Muon computes products in.
        capturable: whether steps may become a part of a CUDA graph.
    """
    hidden = hidden_matrices(model)
    own = {id(matrix) for matrix in hidden}
    rest = [
        weight
        for network in (model, *auxiliary)
        for weight in network.parameters()
        if weight.requires_grad and id(weight) not in own
    ]
    groups = [
        {"params": [weight for weight in rest if weight.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [weight for weight in rest if weight.dim() <= 1], "weight_decay": 0.0},
    ]
    return [
        torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True, capturable=capturable),
        Muon(hidden, config.lr, config.momentum, config.weight_decay, dtype),
    ]
