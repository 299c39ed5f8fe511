"""bfloat16 only where the machine has instructions for it, and a wrong word refused."""

from __future__ import annotations

import pytest
import torch
from fsqcodec.errors import ConfigError
from fsqcodec.train.precision import settle_precision


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "no"),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"neon": True, "bf16": True}, "bf16"),
        ({"neon": True, "bf16": False}, "no"),
    ],
)
def test_auto_takes_what_the_processor_can(
    instructions: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    assert settle_precision("auto") == expected


@pytest.mark.parametrize("emulated", [False, True])
def test_auto_on_a_gpu_does_not_take_emulation(emulated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or not emulated
    )
    assert settle_precision("auto") == ("no" if emulated else "bf16")


def test_what_is_asked_is_done_or_refused() -> None:
    assert [settle_precision(asked) for asked in ("bf16", "no")] == ["bf16", "no"]
    with pytest.raises(ConfigError, match="fp16 is none of auto, bf16, no"):
        settle_precision("fp16")
