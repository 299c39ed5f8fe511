"""fsqcodec: a neural codec of residual FSQ tokens, an exact range coder and a safe file format.

    import fsqcodec
    codec = fsqcodec.load("speech-24k")

Names are imported when they are first used, so that `import fsqcodec` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsqcodec.checkpoints import load, load_audio, load_visual

    from .audio.tokens import Encoded
    from .errors import BitstreamError, FSQCodecError, MediaError, ModelError
    from .live.batch import BatchDecoder, BatchEncoder
    from .live.decoder import LiveDecoder
    from .live.encoder import LiveEncoder
    from .protocols import AudioCodec, Video, VisualCodec
    from .quantization.fsq import FSQ
    from .quantization.residual_fsq import ResidualFSQ

    Codec, Decoder, Encoder = AudioCodec, LiveDecoder, LiveEncoder
    __version__: str

_MODULES = {
    "AudioCodec": "fsqcodec.protocols",
    "BatchDecoder": "fsqcodec.live.batch",
    "BatchEncoder": "fsqcodec.live.batch",
    "BitstreamError": "fsqcodec.errors",
    "Encoded": "fsqcodec.audio.tokens",
    "FSQ": "fsqcodec.quantization.fsq",
    "FSQCodecError": "fsqcodec.errors",
    "LiveDecoder": "fsqcodec.live.decoder",
    "LiveEncoder": "fsqcodec.live.encoder",
    "MediaError": "fsqcodec.errors",
    "ModelError": "fsqcodec.errors",
    "ResidualFSQ": "fsqcodec.quantization.residual_fsq",
    "Video": "fsqcodec.protocols",
    "VisualCodec": "fsqcodec.protocols",
    "load": "fsqcodec.checkpoints",
    "load_audio": "fsqcodec.checkpoints",
    "load_visual": "fsqcodec.checkpoints",
}
_FORMER_NAMES = {"Codec": "AudioCodec", "Decoder": "LiveDecoder", "Encoder": "LiveEncoder"}
"""Names of version 0.1, which 0.2 still knows."""
__all__ = [
    "FSQ",
    "AudioCodec",
    "BatchDecoder",
    "BatchEncoder",
    "BitstreamError",
    "Codec",
    "Decoder",
    "Encoded",
    "Encoder",
    "FSQCodecError",
    "LiveDecoder",
    "LiveEncoder",
    "MediaError",
    "ModelError",
    "ResidualFSQ",
    "Video",
    "VisualCodec",
    "__version__",
    "load",
    "load_audio",
    "load_visual",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("fsqcodec")
    if name in _FORMER_NAMES:
        from .deprecation import warn_of_former_name

        warn_of_former_name(name, _FORMER_NAMES[name])
        name = _FORMER_NAMES[name]
    if name not in _MODULES:
        raise AttributeError(f"module 'fsqcodec' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
