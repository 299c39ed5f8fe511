"""The modalities: a folder and a line each. Whoever meets a file's header or a model's file asks here.

Modules are named by strings and imported when they are needed, so that reading sound does not import pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bitstream.header import FileHeader


@dataclass(frozen=True)
class Modality:
    """One kind of media."""

    name: str
    """In model files."""
    kind: int
    """First field of headers."""
    header: str
    """`module:class` of its headers."""
    weights: str
    """`module:class` of what a model file holds; see `fsqcodec.checkpoints`."""


MODALITIES = (
    Modality("audio", 0, "fsqcodec.audio.header:AudioHeader", "fsqcodec.audio.codec:AudioWeights"),
    Modality("visual", 1, "fsqcodec.visual.header:VisualHeader", "fsqcodec.visual.codec:VisualWeights"),
)


def modality(name: str | int) -> Modality:
    """The modality of a name, or of a header's kind.

    Raises:
        ValueError: there is none.
    """
    for each in MODALITIES:
        if name in (each.name, each.kind):
            return each
    raise ValueError(f"kind {name!r} is none of {', '.join(each.name for each in MODALITIES)}")


def header_of(name: str | int) -> type[FileHeader]:
    """The class of a modality's headers.

    Raises:
        ValueError: there is no such modality.
    """
    found: type[FileHeader] = resolve(modality(name).header)
    return found


def resolve(path: str) -> Any:
    """What a `module:name` names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
