"""Tokens of sound ↔ `.fsq` bytes, by an entropy model; no network runs here."""

from __future__ import annotations

import collections
import functools
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..bitstream.header import FileHeader, check_model
from ..bitstream.packet import MAX_FRAMES, Packet
from ..bitstream.reader import Reader
from ..bitstream.writer import PACKET_SECONDS, Writer
from ..entropy.base import EntropyModel
from ..errors import BitstreamError
from .header import AudioHeader
from .tokens import STAGES_PER_LAYER, Encoded, StereoRun, TokenPacket


class PacketSource(Protocol):
    """Packets of a file as they come: a `Reader`, or the sound of one that holds a video."""

    name: str
    lost: int

    @property
    def header(self) -> FileHeader:
        """What the file says of itself."""

    @property
    def seekable(self) -> bool:
        """Whether it is a file, all of it there, and not a pipe."""

    def error(self, offset: int, what: str, remedy: str = "") -> BitstreamError:
        """An error that names the file, the byte and the remedy."""

    def __iter__(self) -> Iterator[Packet]: ...


@dataclass(frozen=True)
class AudioBitstream:
    """Packs and unpacks the tokens of one model."""

    model: str
    """The model's name."""
    model_hash: bytes
    """8 bytes: what the tokens mean."""
    sample_rate: int
    """Hz of the model."""
    frame: int
    """Samples in a latent frame."""
    lag: int
    """Samples by which decoded sound is late."""
    stages: int
    """Stages of the quantizer."""
    dtype: np.dtype[np.integer]
    """Integers that hold tokens."""
    coders: Sequence[EntropyModel]
    """Files are written with the first; those of any are read."""

    @property
    def coder(self) -> EntropyModel:
        """What files are written with."""
        return self.coders[0]

    @property
    def frame_rate(self) -> float:
        """Latent frames in a second."""
        return self.sample_rate / self.frame

    # tokens → bytes

    def packet_frames(self, seconds: float = PACKET_SECONDS) -> int:
        """Latent frames in a packet of about `seconds`."""
        return min(MAX_FRAMES // 2, max(1, round(seconds * self.frame_rate)))

    def header(self, encoded: Encoded, packet_frames: int) -> AudioHeader:
        """Header of a file that holds `encoded`."""
        return AudioHeader(
            self.model,
            self.model_hash,
            self.coder.hash,
            self.frame,
            self.sample_rate,
            encoded.sample_rate,
            len(encoded.tokens),
            encoded.samples,
            encoded.tokens.shape[1],
            STAGES_PER_LAYER,
            packet_frames,
            encoded.mid_side,
            encoded.tags,
            encoded.layout,
        )

    def packets(self, encoded: Encoded, frames: int) -> Iterator[Packet]:
        """The packets of a file, of `frames` latent frames each."""
        for part in encoded.split(frames):
            layers = self.coder.encode_layers(part.tokens, STAGES_PER_LAYER, part.tail)
            # What the header says of all packets, none needs to repeat.
            stereo = None if part.mid_side in (None, encoded.mid_side) else int(part.mid_side)
            yield Packet(
                part.stream, part.start, len(part.tokens), tuple(layers), tail=part.tail, stereo=stereo
            )

    def write(self, encoded: Encoded, file: IO[bytes], packet_seconds: float = PACKET_SECONDS) -> int:
        """Write a `.fsq` file and return its bytes; a pipe will do."""
        frames = self.packet_frames(packet_seconds)
        writer = Writer(file, self.header(encoded, frames))
        for packet in self.packets(encoded, frames):
            writer.write(packet)
        return writer.finish()

    def pack(self, encoded: Encoded, packet_seconds: float = PACKET_SECONDS) -> bytes:
        """The bytes of a `.fsq` file."""
        file = io.BytesIO()
        self.write(encoded, file, packet_seconds)
        return file.getvalue()

    # bytes → tokens

    def check(self, reader: PacketSource) -> AudioHeader:
        """The header of a file of sound that was made with this model.

        Raises:
            ModelError: it was made with another.
            BitstreamError: it holds pictures.
        """
        header = reader.header
        if not isinstance(header, AudioHeader):
            raise BitstreamError(
                f"{reader.name}: holds pictures, and `fsqcodec.load` gives this model for sound"
            )
        check_model(reader.name, header, self.model, self.model_hash, [coder.hash for coder in self.coders])
        if header.stages > self.stages:
            raise BitstreamError(f"{reader.name}: {header.stages} stages, the model has {self.stages}")
        return header

    def read(
        self, reader: PacketSource, stages: int | None = None, keep_going: bool = False
    ) -> Iterator[TokenPacket]:
        """Tokens of a file's packets, at most `stages` of them.

        Raises:
            BitstreamError: a layer is damaged; with `keep_going` the packet is left out instead.
        """
        header = self.check(reader)
        coder = next(coder for coder in self.coders if coder.hash == header.table_hash)
        per_layer, wanted = header.stages_per_layer, min(stages or header.stages, header.stages)

        def decode(packet: Packet) -> NDArray[np.int32]:
            part = packet.peel(-(-wanted // per_layer))
            have = header.stages_of(len(part.layers))
            return coder.decode_layers(part.layers, part.frames, have, per_layer, part.tail)[:, :wanted]

        modes: dict[int, int | None] = {}
        for packet, result in _decode_ahead(reader, decode):
            try:
                _check_stereo(packet, header, modes)
                tokens = result()
            except BitstreamError as error:
                if not keep_going:
                    raise reader.error(
                        packet.offset, str(error), "--keep-going decodes what is intact"
                    ) from None
                reader.lost += sum(map(len, packet.layers))
                continue
            complete = tokens.shape[1] == header.stages_of(len(packet.layers))
            mid_side = None if packet.stereo is None else bool(packet.stereo)
            tail = packet.tail if complete else 0
            yield TokenPacket(packet.stream, packet.start, tokens, tail, mid_side)

    def unpack(self, data: bytes, name: str = "bytes") -> Encoded:
        """Inverse of `pack`.

        Raises:
            BitstreamError: the data are damaged.
            ModelError: they were made with another model.
        """
        reader = Reader(io.BytesIO(data), name)
        header = self.check(reader)
        parts: list[list[NDArray[np.integer]]] = [[] for _ in range(header.channels)]
        counts: list[list[NDArray[np.integer]]] = [[] for _ in range(header.channels)]
        runs: list[StereoRun] = []
        for packet in self.read(reader):
            mode = header.mid_side if packet.mid_side is None else packet.mid_side
            if packet.stream == 0 and mode != (runs[-1].mid_side if runs else header.mid_side):
                runs.append(StereoRun(packet.start, mode))
            missing = header.stages - packet.tokens.shape[1]
            parts[packet.stream].append(np.pad(packet.tokens.astype(self.dtype).T, ((0, missing), (0, 0))))
            counts[packet.stream].append(packet.kept())
        if reader.missing:
            raise BitstreamError(f"{name}: {reader.missing}; get the whole file")
        tokens, kept = np.zeros((header.channels, header.stages, 0), self.dtype), None
        if any(parts):
            tokens = np.stack([np.concatenate(rows, axis=1) for rows in parts])
            kept = np.stack([np.concatenate(rows) for rows in counts])
        length = header.samples
        if length is None:
            covered = max(0, tokens.shape[2] * self.frame - self.lag)
            length = covered * header.sample_rate // self.sample_rate
        stereo = tuple(runs) if not runs or runs[0].start == 0 else (StereoRun(0, header.mid_side), *runs)
        encoded = Encoded(
            tokens, header.sample_rate, length, header.mid_side, header.tags, kept, header.layout, stereo
        )
        return encoded if kept is None else encoded.prefix(int(kept.max()))


def _check_stereo(packet: Packet, header: AudioHeader, modes: dict[int, int | None]) -> None:
    """Check that two streams of a stretch, and none of another number, are coded one way.

    Args:
        packet: the packet.
        header: of its file.
        modes: of the packets of stream 0 by their first frame; the latest is kept.

    Raises:
        BitstreamError: they are not.
    """
    if packet.stereo is not None and header.channels != 2:
        raise BitstreamError(f"a stereo mode in a file of {header.channels} channels")
    if packet.stream == 0:
        modes.clear()
        modes[packet.start] = packet.stereo
    elif modes.get(packet.start, packet.stereo) != packet.stereo:
        raise BitstreamError("its two streams are coded in different ways")


def _decode_ahead(
    reader: PacketSource, decode: Callable[[Packet], NDArray[np.int32]]
) -> Iterator[tuple[Packet, Callable[[], NDArray[np.int32]]]]:
    """Packets, and how to get their tokens: as many packets as torch has threads are decoded at once.

    From a pipe they are decoded one by one, since the next may be long in coming.
    """
    workers = torch.get_num_threads()
    if workers == 1 or not reader.seekable:
        for packet in reader:
            yield packet, functools.partial(decode, packet)
        return
    waiting: collections.deque[tuple[Packet, Callable[[], NDArray[np.int32]]]] = collections.deque()
    with ThreadPoolExecutor(workers) as pool:
        for packet in reader:
            waiting.append((packet, pool.submit(decode, packet).result))
            if len(waiting) > 2 * workers:
                yield waiting.popleft()
        yield from waiting
