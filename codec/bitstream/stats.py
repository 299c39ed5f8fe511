"""What a `.fsq` file holds and where its bytes go, without decoding it."""

from __future__ import annotations

from dataclasses import dataclass

from .header import FileHeader
from .reader import Reader


@dataclass(frozen=True)
class FileStats:
    """Where the bytes of a file go."""

    header: FileHeader
    seconds: float
    """Duration; of the packets where the header does not tell."""
    packets: int
    total: int
    """Bytes of the file."""
    layers: tuple[int, ...]
    """Bytes of each layer, over all packets; in a video, of its pictures."""
    sound: int
    """Bytes of a video's sound."""
    frames: int
    """Frames of the first stream."""
    complete: bool
    """Whether the file has its end."""
    tails: int
    """Frames, of all streams together, whose last stage was left out to meet a bitrate."""

    @property
    def overhead(self) -> int:
        """Bytes of header, packet heads, checksums and index."""
        return self.total - sum(self.layers) - self.sound

    def kbps(self, size: int | None = None) -> float:
        """Average kbit/s of `size` bytes, of the whole file by default."""
        return (self.total if size is None else size) * 8 / 1000 / self.seconds if self.seconds else 0.0

    def size(self, layers: int) -> int:
        """Bytes of the file with so many layers."""
        return self.overhead + self.sound + sum(self.layers[:layers])

    def layers_within(self, kbps: float) -> int:
        """How many layers fit into an average bitrate; at least those with the first stage."""
        fitting = sum(self.kbps(self.size(n + 1)) <= kbps for n in range(len(self.layers)))
        return max(fitting, self.fewest_layers)

    @property
    def fewest_layers(self) -> int:
        """Layers that a packet must keep: those with the first stage, and side information before them."""
        layers = range(1, len(self.layers) + 1)
        return next((n for n in layers if self.header.stages_of(n)), len(self.layers))


def file_stats(reader: Reader) -> FileStats:
    """Read a file's packets, decoding nothing."""
    header = reader.header
    layers, packets, frames, sound, tails = [0] * header.layers, 0, 0, 0, 0
    for packet in reader:
        packets += 1
        if not header.scalable(packet.stream):
            sound += sum(map(len, packet.layers))
            continue
        frames = max(frames, packet.start + packet.frames)
        tails += packet.tail
        for i, layer in enumerate(packet.layers):
            layers[i] += len(layer)
    seconds = header.span(frames) if header.seconds is None else header.seconds
    return FileStats(
        header, seconds, packets, reader.position, tuple(layers), sound, frames, reader.complete, tails
    )
