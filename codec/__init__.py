"""fsqcodec: a neural codec of residual FSQ tokens, an exact range coder and a safe file format.

    import fsqcodec
    codec = fsqcodec.load("speech-24k")

Names are imported when they are first used, so that `import fsqcodec` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsqcodec.checkpoints import load

    from .audio.codec import Codec
    from .audio.tokens import Encoded
    from .errors import BitstreamError, FSQCodecError, MediaError, ModelError
    from .live.batch import BatchDecoder, BatchEncoder
    from .live.stream import Decoder, Encoder
    from .quantization.fsq import FSQ
    from .quantization.residual_fsq import ResidualFSQ
    from .visual.codec import VisualCodec

_PLACES = {
    "load": "fsqcodec.checkpoints",
    "BatchDecoder": "fsqcodec.live.batch",
    "BatchEncoder": "fsqcodec.live.batch",
    "Codec": "fsqcodec.audio.codec",
    "Encoded": "fsqcodec.audio.tokens",
    "BitstreamError": "fsqcodec.errors",
    "FSQCodecError": "fsqcodec.errors",
    "MediaError": "fsqcodec.errors",
    "ModelError": "fsqcodec.errors",
    "FSQ": "fsqcodec.quantization.fsq",
    "Encoder": "fsqcodec.live.stream",
    "Decoder": "fsqcodec.live.stream",
    "ResidualFSQ": "fsqcodec.quantization.residual_fsq",
    "VisualCodec": "fsqcodec.visual.codec",
}
__all__ = [
    "FSQ", "BatchDecoder", "BatchEncoder", "BitstreamError", "Codec", "Decoder", "Encoded", "Encoder", "FSQCodecError", "MediaError", "ModelError", "ResidualFSQ",
    "VisualCodec", "load",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'fsqcodec' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
