"""A codec: an audio model with its frequency tables, between samples, tokens and `.fsq` bytes."""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .audio.model import AudioModel
from .audio.stream import StreamDecoder, StreamEncoder, latent_frames
from .container import MAX_FRAMES, Header, Packet, Writer
from .errors import BitstreamError, ModelError
from .media import AudioFacts, AudioReader, AudioWriter, Resampler, Samples
from .packets import PacketSource, TokenCoder, TokenPacket, decode_ahead
from .prior import Prior
from .reader import Reader
from .refine import refine
from .tables import StaticTables

STAGES_PER_LAYER = 3
PACKET_SECONDS = 4.0


@dataclass(frozen=True)
class Encoded:
    """Tokens of one piece of audio, and what is needed to give back what came in."""

    tokens: NDArray[np.integer]
    """(streams, stages, frames): indices into the implicit codebooks, in 0 … codebook_size - 1."""
    sample_rate: int
    """Hz of the original."""
    samples: int
    """Samples a channel of the original."""
    mid_side: bool = False
    """The two streams are (left + right) / 2 and (left - right) / 2."""
    tags: dict[str, str] = field(default_factory=dict)
    kept: NDArray[np.integer] | None = None
    """(streams, frames): how many of the stages each frame has, all when None. Where one is left out its token means nothing."""

    @property
    def seconds(self) -> float:
        """Duration of the original."""
        return self.samples / self.sample_rate


class Codec:
    """Encodes and decodes audio with one model. Made by `fsqcodec.load`.

    Example:
        >>> import fsqcodec, numpy as np
        >>> codec = fsqcodec.load("speech-24k")
        >>> t = np.arange(48000, dtype=np.float32) / 48000
        >>> encoded = codec.encode(0.1 * np.sin(2 * np.pi * 220 * t), sample_rate=48000, kbps=6)
        >>> data = codec.to_bytes(encoded)
        >>> back = codec.decode(codec.from_bytes(data))
        >>> back.shape, back.dtype
        ((1, 48000), dtype('float32'))
    """

    def __init__(
        self, name: str, model: AudioModel, tables: StaticTables, model_hash: bytes, metadata: dict[str, Any],
        prior: Prior | None = None,
    ) -> None:  # fmt: skip
        self.name, self.model, self.tables, self.prior = name, model.eval(), tables, prior
        self.coder: TokenCoder = prior or tables
        """What files are written with; files of any of the model's coders are read."""
        self.model_hash = model_hash
        self.metadata = metadata
        """Configuration and provenance of the model, as in its file."""
        self._dtype = np.min_scalar_type(model.quantizer.codebook_size - 1)

    def without_prior(self) -> Codec:
        """The same codec, writing files with static tables: larger, for decoders without the prior."""
        plain = copy.copy(self)
        plain.coder = self.tables
        return plain

    @property
    def sample_rate(self) -> int:
        """Hz of the model."""
        return self.model.config.sample_rate

    @property
    def stages(self) -> int:
        """Stages of the quantizer."""
        return self.model.quantizer.stages

    @property
    def frame_rate(self) -> float:
        """Latent frames in a second."""
        return self.model.config.frame_rate

    @property
    def delay(self) -> float:
        """Algorithmic delay in seconds: one latent frame is awaited, and the decoder lags."""
        return (self.model.config.frame + self.model.config.lag) / self.sample_rate

    # samples → tokens

    def encode(
        self, samples: NDArray[np.floating], sample_rate: int | None = None, *, kbps: float | None = None,
        stages: int | None = None, tags: dict[str, str] | None = None, effort: int = 0,
    ) -> Encoded:  # fmt: skip
        """Tokens of samples (n,) or (channels, n) in [-1, 1].

        Args:
            samples: the audio.
            sample_rate: Hz; the model's own when None.
            kbps: keep as many stages as fit into this average bitrate of the file, at least one; what is left of it
                pays for one more in part of the frames.
            stages: keep this many stages (all when None).
            tags: title, artist, … to keep in the file.
            effort: steps of a search for better tokens (`fsqcodec.refine`), each some hundredths of the sound's duration.

        Raises:
            ModelError: `effort` is asked of a model without a prior.
        """
        block = np.atleast_2d(np.asarray(samples, np.float32))
        rate = sample_rate or self.sample_rate
        resampler = Resampler(len(block), rate, self.sample_rate)
        blocks = [resampler.push(block), resampler.flush()]
        encoded = self.encode_blocks(blocks, len(block), rate, lambda: block.shape[1], tags)
        if not effort:
            return self.limit(encoded, kbps=kbps, stages=stages)
        return self.refine(self.limit(encoded, stages=stages), blocks, effort, kbps=kbps)

    def encode_blocks(
        self, blocks: Iterable[Samples], channels: int, sample_rate: int, length: Callable[[], int],
        tags: dict[str, str] | None = None,
    ) -> Encoded:  # fmt: skip
        """Tokens of blocks (channels, n) at the model's rate, as they come; memory holds one block and tokens.

        Args:
            blocks: the audio, any sizes.
            channels: number of channels; two are coded as mid and side.
            sample_rate: Hz of the original.
            length: tells the samples a channel of the original, asked after the last block.
            tags: title, artist, …
        """
        encoders = [StreamEncoder(self.model) for _ in range(channels)]
        parts: list[list[NDArray[np.integer]]] = [[] for _ in range(channels)]
        pushed = 0
        for block in blocks:
            pushed += block.shape[1]
            for rows, encoder, signal in zip(parts, encoders, _mid_side(block), strict=True):
                rows.append(encoder.push(signal).astype(self._dtype))
        samples = length()
        # Rate conversion may round the last sample away: tokens must cover what the decoder has to return.
        missing = max(0, -(-samples * self.sample_rate // sample_rate) - pushed)
        for rows, encoder in zip(parts, encoders, strict=True):
            rows.append(encoder.push(np.zeros(missing, np.float32)).astype(self._dtype))
            rows.append(encoder.flush().astype(self._dtype))
        tokens = np.empty((channels, sum(map(len, parts[0])), self.stages), self._dtype)
        for stream, rows in zip(tokens, parts, strict=True):
            np.concatenate(rows, out=stream)
            rows.clear()
        return Encoded(tokens.transpose(0, 2, 1), sample_rate, samples, channels == 2, tags or {})

    def encode_media(self, source: str | Path | IO[bytes], name: str | None = None) -> Encoded:
        """Tokens of the sound of a media file, a path or an open file, that errors call `name`.

        Raises:
            MediaError: it cannot be read, or has no sound.
        """
        with AudioReader(source, self.sample_rate, name) as reader:
            facts = reader.facts
            return self.encode_blocks(
                iter(reader), facts.channels, facts.sample_rate, lambda: reader.samples_in, facts.tags
            )

    def limit(
        self, encoded: Encoded, *, kbps: float | None = None, stages: int | None = None,
        packet_seconds: float = PACKET_SECONDS,
    ) -> Encoded:  # fmt: skip
        """The same tokens with fewer stages: `stages` of them, or as many as fit into `kbps`, at least one.

        `kbps` counts every byte of a file with packets of `packet_seconds`. What is left of it pays for one more stage at
        the beginning of each packet.

        Raises:
            ValueError: not a positive number.
        """
        if (kbps is not None and not kbps > 0) or (stages is not None and stages < 1):
            raise ValueError("kbps and stages must be positive")
        have = encoded.tokens.shape[1]
        encoded = _prefix(encoded, min(have, stages or have))
        if kbps is None or not encoded.samples:
            return encoded
        frames, budget = self.packet_frames(packet_seconds), kbps * 125 * encoded.seconds
        spent, places = [], []
        for packet in self.split(encoded, frames):
            there = np.arange(packet.tokens.shape[1]) < packet.kept()[:, None]
            lengths = np.where(there, self.coder.bits(packet.tokens), 0) / 8
            spent.append(np.pad(lengths, ((0, 0), (0, encoded.tokens.shape[1] - lengths.shape[1]))))
            places.append((np.arange(len(there)) + 1) / len(there))
        lengths, place = np.concatenate(spent), np.concatenate(places)
        # The ideal lengths tell nearly where it is; bytes decide.
        keep = max(1, int(np.searchsorted(lengths.sum(0).cumsum(), budget, "right")))
        while (size := self._size(found := _prefix(encoded, keep), packet_seconds)) > budget and keep > 1:
            keep -= 1
        if keep == encoded.tokens.shape[1]:
            return found
        order = np.argsort(place, kind="stable")
        grown = lengths[order, keep].cumsum()
        left = budget - size
        while (count := int(np.searchsorted(grown, left, "right"))) > 0:
            longer = self._with_tails(encoded, keep + 1, frames, place[order[count - 1]])
            if (over := self._size(longer, packet_seconds) - budget) <= 0:
                return longer
            left = min(left, grown[count - 1]) - over
        return found

    def _with_tails(self, encoded: Encoded, stages: int, frames: int, share: float) -> Encoded:
        """The first stages; the last of them in a share of every packet of so many frames, from its beginning on."""
        kept = np.full((len(encoded.tokens), encoded.tokens.shape[2]), stages - 1)
        for start, stop in itertools.pairwise(self._edges(encoded, frames)):
            kept[:, start : start + int(share * (stop - start) + 1e-9)] = stages
        if encoded.kept is not None:
            kept = np.minimum(kept, encoded.kept)
        return _prefix(replace(encoded, kept=kept), stages)

    def refine(
        self, encoded: Encoded, blocks: Sequence[Samples], effort: int, *, kbps: float | None = None,
        packet_seconds: float = PACKET_SECONDS, advance: Callable[[float], None] = lambda _: None,
    ) -> Encoded:  # fmt: skip
        """Better tokens of the blocks (channels, n) that `encoded` was made from, limited to `kbps`; see `fsqcodec.refine.refine`.

        Raises:
            ModelError: the model has no prior.
        """
        signals = _mid_side(np.concatenate(blocks, axis=1))
        return refine(self, encoded, signals, effort, kbps, packet_seconds, advance)

    def _size(self, encoded: Encoded, packet_seconds: float) -> int:
        return len(self.to_bytes(encoded, packet_seconds))

    # tokens → samples

    def decode(self, encoded: Encoded, *, stages: int | None = None) -> Samples:
        """Samples float32 (channels, n) at the original's rate, of exactly the original's length."""
        header = self.header(encoded, self.packet_frames())
        blocks = list(self.decode_blocks(self.split(encoded, self.packet_frames()), header, stages))
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(encoded.tokens), 0), np.float32)

    def decode_media(self, encoded: Encoded, file: IO[bytes], suffix: str = ".wav") -> None:
        """Write the samples as a media file of the format that a suffix names.

        Raises:
            MediaError: there is no such format.
        """
        writer = AudioWriter(file, suffix, AudioFacts(encoded.sample_rate, len(encoded.tokens), encoded.tags))
        frames = self.packet_frames()
        for block in self.decode_blocks(self.split(encoded, frames), self.header(encoded, frames)):
            writer.write(block)
        writer.close()

    def decode_blocks(
        self, packets: Iterable[TokenPacket], header: Header, stages: int | None = None, first: int = 0
    ) -> Iterator[Samples]:
        """Blocks float32 (channels, n) at the original's rate; lost frames are silence.

        Args:
            packets: in order of time; a gap between packets of a stream stands for lost frames.
            header: facts of the original.
            stages: decode at most this many.
            first: latent frame that the packets begin with; the blocks begin with its first sample.
        """
        decoders = [StreamDecoder(self.model) for _ in range(header.channels)]
        ends = [first] * header.channels
        waiting = [np.zeros(0, np.float32)] * header.channels
        resampler = Resampler(header.channels, self.sample_rate, header.sample_rate)
        given = self.sample_of(first, header.sample_rate)

        def deliver(block: Samples) -> Iterator[Samples]:
            nonlocal given
            if header.samples is not None:
                block = block[:, : header.samples - given]
            given += block.shape[1]
            if block.shape[1]:
                yield block

        def ready() -> Samples:
            count = min(map(len, waiting))
            block = np.stack([signal[:count] for signal in waiting])
            waiting[:] = [signal[count:] for signal in waiting]
            return _left_right(block) if header.mid_side else block

        for packet in packets:
            s = packet.stream
            pieces = [self._lose(decoders[s], packet.start - ends[s])]
            whole = len(packet.tokens) - packet.tail
            pieces.append(decoders[s].push(packet.tokens[:whole], stages))
            pieces.append(decoders[s].push(packet.tokens[whole:, :-1], stages))
            ends[s] = packet.start + len(packet.tokens)
            waiting[s] = np.concatenate([waiting[s], *pieces])
            yield from deliver(resampler.push(ready()))
        longest = max(ends)
        for s, decoder in enumerate(decoders):
            waiting[s] = np.concatenate([waiting[s], self._lose(decoder, longest - ends[s]), decoder.flush()])
        yield from deliver(resampler.push(ready()))
        yield from deliver(resampler.flush())
        complete = header.samples is not None and longest >= latent_frames(
            -(-header.samples * self.sample_rate // header.sample_rate), self.model
        )
        if complete and header.samples is not None and given < header.samples:
            # The rate converter may end a sample early.
            yield from deliver(np.zeros((header.channels, header.samples - given), np.float32))

    def sample_of(self, frame: int, sample_rate: int) -> int:
        """The sample, at an original's rate, that a latent frame begins with."""
        return frame * self.model.config.frame * sample_rate // self.sample_rate

    @staticmethod
    def _lose(decoder: StreamDecoder, frames: int) -> NDArray[np.float32]:
        return decoder.push(np.zeros((frames, 0), np.int64))

    # tokens ↔ bytes

    def packet_frames(self, seconds: float = PACKET_SECONDS) -> int:
        """Latent frames in a packet of about `seconds`."""
        return min(MAX_FRAMES // 2, max(1, round(seconds * self.frame_rate)))

    def header(self, encoded: Encoded, packet_frames: int) -> Header:
        """Header of a file that holds `encoded`."""
        return Header(
            self.name, self.model_hash, self.coder.hash, self.model.config.frame, self.sample_rate,
            encoded.sample_rate, len(encoded.tokens), encoded.samples, encoded.tokens.shape[1], STAGES_PER_LAYER, packet_frames, encoded.mid_side, encoded.tags,
            version=1 if encoded.kept is None else 2,
        )  # fmt: skip

    def write(self, encoded: Encoded, file: IO[bytes], packet_seconds: float = PACKET_SECONDS) -> int:
        """Write a `.fsq` file and return its bytes; a pipe will do."""
        frames = self.packet_frames(packet_seconds)
        header = self.header(encoded, frames)
        writer = Writer(file, header)
        for packet in self.packets(encoded, frames):
            writer.write(packet)
        return writer.finish()

    def packets(self, encoded: Encoded, frames: int) -> Iterator[Packet]:
        """The packets of a file, of `frames` latent frames each."""
        for part in self.split(encoded, frames):
            layers = self.coder.encode_layers(part.tokens, STAGES_PER_LAYER, part.tail)
            yield Packet(part.stream, part.start, len(part.tokens), tuple(layers), tail=part.tail)

    def to_bytes(self, encoded: Encoded, packet_seconds: float = PACKET_SECONDS) -> bytes:
        """The bytes of a `.fsq` file."""
        file = io.BytesIO()
        self.write(encoded, file, packet_seconds)
        return file.getvalue()

    def check(self, reader: PacketSource) -> Header:
        """The header of a file of sound that was made with this model.

        Raises:
            ModelError: it was made with another.
            BitstreamError: it holds pictures.
        """
        header = reader.header
        if not isinstance(header, Header):
            raise BitstreamError(
                f"{reader.name}: holds pictures, and `fsqcodec.load` gives this model for sound"
            )
        if header.model_hash != self.model_hash or self._coder_of(header) is None:
            made, ours = header.model_hash + header.table_hash, self.model_hash + self.coder.hash
            raise ModelError(
                f"{reader.name}: made with model {header.model} {made.hex()}, "
                f"this is {self.name} {ours.hex()}; give the model it was made with by --model"
            )
        if header.stages > self.stages:
            raise BitstreamError(f"{reader.name}: {header.stages} stages, the model has {self.stages}")
        return header

    def _coder_of(self, header: Header) -> TokenCoder | None:
        coders: tuple[TokenCoder | None, ...] = (self.prior, self.tables)
        return next((coder for coder in coders if coder and coder.hash == header.table_hash), None)

    def read_packets(
        self, reader: PacketSource, stages: int | None = None, keep_going: bool = False
    ) -> Iterator[TokenPacket]:
        """Tokens of a file's packets, at most `stages` of them.

        Raises:
            BitstreamError: a layer is damaged; with `keep_going` the packet is left out instead.
        """
        header = self.check(reader)
        coder = self._coder_of(header)
        assert coder
        per_layer, wanted = header.stages_per_layer, min(stages or header.stages, header.stages)

        def decode(packet: Packet) -> NDArray[np.int32]:
            part = packet.peel(-(-wanted // per_layer))
            have = min(header.stages, len(part.layers) * per_layer)
            return coder.decode_layers(part.layers, part.frames, have, per_layer, part.tail)[:, :wanted]

        for packet, tokens in decode_ahead(reader, decode):
            try:
                found = tokens()
            except BitstreamError as error:
                if not keep_going:
                    raise reader.error(
                        packet.offset, str(error), "--keep-going decodes what is intact"
                    ) from None
                reader.lost += sum(map(len, packet.layers))
                continue
            last = found.shape[1] == min(header.stages, len(packet.layers) * per_layer)
            yield TokenPacket(packet.stream, packet.start, found, packet.tail if last else 0)

    def from_bytes(self, data: bytes, name: str = "bytes") -> Encoded:
        """Inverse of `to_bytes`.

        Raises:
            BitstreamError: the data are damaged.
            ModelError: they were made with another model.
        """
        reader = Reader(io.BytesIO(data), name)
        header = self.check(reader)
        parts: list[list[NDArray[np.integer]]] = [[] for _ in range(header.channels)]
        counts: list[list[NDArray[np.integer]]] = [[] for _ in range(header.channels)]
        for packet in self.read_packets(reader):
            missing = header.stages - packet.tokens.shape[1]
            parts[packet.stream].append(np.pad(packet.tokens.astype(self._dtype).T, ((0, missing), (0, 0))))
            counts[packet.stream].append(packet.kept())
        if not all(parts) and any(parts):
            raise reader.error(len(data), "a stream is missing")
        tokens, kept = np.zeros((header.channels, header.stages, 0), self._dtype), None
        if any(parts):
            tokens = np.stack([np.concatenate(rows, axis=1) for rows in parts])
            kept = np.stack([np.concatenate(rows) for rows in counts])
        length = header.samples
        if length is None:
            covered = max(0, tokens.shape[2] * self.model.config.frame - self.model.config.lag)
            length = covered * header.sample_rate // self.sample_rate
        found = Encoded(tokens, header.sample_rate, length, header.mid_side, header.tags, kept)
        return found if kept is None else _prefix(found, int(kept.max()))

    def split(self, encoded: Encoded, frames: int) -> Iterator[TokenPacket]:
        """Packets in order of time, the streams of a stretch one after the other.

        A rest of less than half a packet goes into the packet before it: a head costs 20 bytes.

        Raises:
            ValueError: frames keep neither all stages, or all but one, nor those of whole layers.
        """
        for start, stop in itertools.pairwise(self._edges(encoded, frames)):
            for stream, tokens in enumerate(encoded.tokens):
                kept = None if encoded.kept is None else encoded.kept[stream, start:stop]
                most = len(tokens) if kept is None else int(kept.max())
                if most == len(tokens) - 1 and most % STAGES_PER_LAYER:
                    most += (
                        1  # a packet of part of a layer is one of all stages whose tail is as long as itself
                    )
                if most < len(tokens) and most % STAGES_PER_LAYER:
                    raise ValueError(f"{most} of {len(tokens)} stages are not whole layers")
                tail = 0 if kept is None else int((kept < most).sum())
                yield TokenPacket(stream, start, tokens[:most, start:stop].T, tail)

    @staticmethod
    def _edges(encoded: Encoded, frames: int) -> list[int]:
        """Where packets begin, and the end of the last."""
        total, kept = encoded.tokens.shape[2], encoded.kept
        edges = [*range(0, max(1, total - frames // 2), frames), total] if total else [0]
        if kept is None or not total:
            return edges
        # Within a packet the last stage may end before the others, and nothing else.
        changes = np.flatnonzero((np.diff(kept, axis=1) != 0).any(0)) + 1
        found = [0]
        for place in sorted({*edges[1:-1], *changes.tolist()}):
            fallen = kept[:, found[-1]] - kept[:, place]
            if place in edges or (kept[:, place] > kept[:, place - 1]).any() or (fallen > 1).any():
                found.append(place)
        return [*found, total]


def _prefix(encoded: Encoded, stages: int) -> Encoded:
    """The first stages."""
    kept = encoded.kept
    if kept is not None:
        kept = np.minimum(kept, stages)
        kept = None if (kept == stages).all() else kept
    return replace(encoded, tokens=encoded.tokens[:, :stages], kept=kept)


def _mid_side(block: Samples) -> Samples:
    return _left_right(block) * np.float32(0.5) if len(block) == 2 else block


def _left_right(block: Samples) -> Samples:
    return np.stack([block[0] + block[1], block[0] - block[1]])
