"""A discriminator of spectra: what tells a decoder that its output is not speech, where no distance can.

Distances to one original punish detail that is plausible but elsewhere, so above a few kilohertz decoders
smooth.
Networks that learn to tell originals from reconstructions ask for detail of the right kind instead: complex
spectra at three resolutions (Jang et al. 2021, UnivNet; Défossez et al. 2022, EnCodec), hinge losses (Lim and
Ye 2017) and the distance of their features (Larsen et al. 2016). To stay cheap, each resolution looks at its
own third of a crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from fsqcodec.nn.stft import spectra
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import weight_norm

_WINDOWS = (512, 1024, 2048)
"""Samples; hops are a quarter."""
_COMPRESSION = 0.3
"""Exponent of magnitudes, so that the quiet octaves count."""
_FLOOR = 1e-4
_LEAK = 0.2

Maps = list[Tensor]
"""Feature maps (B, C, T, F) of every layer of a resolution; the last are scores (B, 1, T, F)."""


class SpectrumDiscriminator(nn.Module):
    """Scores of patches of spectra at three resolutions: positive for originals.

    Args:
        channels: of the hidden layers.
    """

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        shape = [(2, channels, 2), (channels, channels, 2), (channels, channels, 2), (channels, 1, 1)]
        self.critics = nn.ModuleList(
            nn.ModuleList(weight_norm(nn.Conv2d(i, o, (3, 9), (1, stride), (1, 4))) for i, o, stride in shape)
            for _ in _WINDOWS
        )
        for window in _WINDOWS:
            self.register_buffer(f"hann{window}", torch.hann_window(window), persistent=False)

    def random_starts(self, samples: int) -> list[int]:
        """First sample, for each resolution, of the third of a crop that it looks at."""
        length = _third(samples)
        return [int(torch.randint(samples - length + 1, ())) for _ in _WINDOWS]

    def forward(self, x: Tensor, starts: Sequence[int]) -> list[Maps]:
        """Maps by resolution of audio float32 (B, N), N at least 2048; `starts` from `random_starts`."""
        length = _third(x.shape[1])
        resolutions = []
        for window, start, critic in zip(_WINDOWS, starts, self.critics, strict=True):
            y = self._spectrum(x[:, start : start + length], window)
            maps: Maps = []
            for layer in critic.children():
                y = layer(F.leaky_relu(y, _LEAK) if maps else y)
                maps.append(y)
            resolutions.append(maps)
        return resolutions

    def _spectrum(self, x: Tensor, window: int) -> Tensor:
        """Real and imaginary parts of compressed complex spectra (B, 2, T, F)."""
        hann = getattr(self, f"hann{window}")
        with torch.autocast(x.device.type, enabled=False):
            real, imag = spectra(x.float(), hann / hann.sum() * 2, window // 4)
            power = real.square() + imag.square() + _FLOOR**2
            return torch.stack([real, imag], 1) * power[:, None] ** ((_COMPRESSION - 1) / 2)


def _third(samples: int) -> int:
    return max(_WINDOWS[-1], samples // 3)


def adversarial_terms(discriminator: nn.Module, y: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The discriminator's own loss, and what it asks of a reconstruction.

    Args:
        discriminator: a `SpectrumDiscriminator`, perhaps wrapped for several processes.
        y: reconstructions (B, N), with gradients.
        x: originals (B, N).

    Returns:
        the loss () whose gradients reach the discriminator only, and the terms `adversarial` and `features`
        () whose gradients reach y only.
    """
    bare: Any = getattr(discriminator, "module", discriminator)
    starts = bare.random_starts(x.shape[1])
    both = discriminator(torch.cat([x, y.detach()]), starts)
    fixed = {name: weight.detach() for name, weight in bare.named_parameters()}
    fakes = functional_call(bare, fixed, (y, starts))
    own, adversarial, features = (y.new_zeros(()) for _ in range(3))
    for maps, fake in zip(both, fakes, strict=True):
        real, made = maps[-1].float().chunk(2)
        own = own + F.relu(1 - real).mean() + F.relu(1 + made).mean()
        adversarial = adversarial - fake[-1].float().mean()
        distances = []
        for pair, mine in zip(maps[:-1], fake[:-1], strict=True):
            wanted = pair.float().chunk(2)[0].detach()
            distances.append((mine.float() - wanted).abs().mean() / wanted.abs().mean().clamp(min=1e-3))
        features = features + torch.stack(distances).mean()
    count = len(both)
    return own / count, {"adversarial": adversarial / count, "features": features / count}
