"""A codec: an audio model with its frequency tables, between samples, tokens and `.fsq` bytes."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..bitstream.container import MAX_FRAMES, PACKET_SECONDS, Header, Packet, Writer
from ..bitstream.reader import Reader
from ..entropy.static import StaticTables
from ..errors import BitstreamError, ModelError
from ..media.audio import AudioFacts, AudioReader, AudioWriter, Resampler, Samples
from .chunked import StreamDecoder, StreamEncoder, latent_frames
from .model import AudioModel
from .packets import STAGES_PER_LAYER, PacketSource, TokenCoder, TokenPacket, decode_ahead
from .prior import Prior
from .rate_control import fill
from .refine import PATIENCE, Watch, automatic_effort, refine
from .tokens import Encoded


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
        stages: int | None = None, tags: dict[str, str] | None = None, effort: int | None = 0,
    ) -> Encoded:  # fmt: skip
        """Tokens of samples (n,) or (channels, n) in [-1, 1].

        Args:
            samples: the audio.
            sample_rate: Hz; the model's own when None.
            kbps: keep as many stages as fit into this average bitrate of the file, at least one; what is left of it
                pays for one more in part of the frames.
            stages: keep this many stages (all when None).
            tags: title, artist, … to keep in the file.
            effort: steps of a search for better tokens (`fsqcodec.audio.refine`), each some hundredths of the sound's duration; None
                for 32 where it lasts up to half a minute, fewer up to a minute (16) and none where it lasts longer, as `fsqcodec encode` does.

        Raises:
            ModelError: `effort` is asked of a model without a prior.
        """
        block = np.atleast_2d(np.asarray(samples, np.float32))
        rate = sample_rate or self.sample_rate
        resampler = Resampler(len(block), rate, self.sample_rate)
        blocks = [resampler.push(block), resampler.flush()]
        encoded = self.encode_blocks(blocks, len(block), rate, lambda: block.shape[1], tags)
        steps = automatic_effort(self, encoded.seconds) if effort is None else effort
        if not steps:
            return self.limit(encoded, kbps=kbps, stages=stages)
        signals = _mid_side(np.concatenate(blocks, axis=1))
        return refine(self, self.limit(encoded, stages=stages), signals, steps, kbps, PACKET_SECONDS)

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

    def encode_media(
        self, source: str | Path | IO[bytes], name: str | None = None, *, kbps: float | None = None,
        packet_seconds: float = PACKET_SECONDS, effort: int | None = 0, watch: Watch | None = None,
    ) -> Encoded:  # fmt: skip
        """Tokens of the sound of a media file, a path or an open file; memory holds a block, unless there is a search.

        Args:
            source: the file.
            name: what errors call it.
            kbps: as for `encode`, of a file with packets of `packet_seconds`.
            packet_seconds: length of a packet.
            effort: as for `encode`.
            watch: told of seconds of sound that are done.

        Raises:
            MediaError: it cannot be read, or has no sound.
            ModelError: `effort` is asked of a model without a prior.
        """
        most = 0.0 if effort == 0 else float("inf") if effort else PATIENCE * self.sample_rate
        kept: list[Samples] = []
        with AudioReader(source, self.sample_rate, name) as reader:
            facts, label = reader.facts, Path(name or str(source)).name
            if watch:
                watch.start(label, reader.duration)

            def blocks() -> Iterator[Samples]:
                count = 0
                for block in reader:
                    count += block.shape[1]
                    if count > most:
                        kept.clear()
                    else:
                        kept.append(block)
                    yield block
                    if watch:
                        watch.advance(block.shape[1] / self.sample_rate)

            encoded = self.encode_blocks(
                blocks(), facts.channels, facts.sample_rate, lambda: reader.samples_in, facts.tags
            )
        steps = automatic_effort(self, encoded.seconds) if effort is None else effort
        if not steps or not kept:
            return self.limit(encoded, kbps=kbps, packet_seconds=packet_seconds)
        signals = _mid_side(np.concatenate(kept, axis=1))
        return refine(self, encoded, signals, steps, kbps, packet_seconds, watch, label)

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
        encoded = encoded.prefix(min(have, stages or have))
        return fill(self, encoded, kbps, packet_seconds) if kbps and encoded.samples else encoded

    # tokens → samples

    def decode(self, encoded: Encoded, *, stages: int | None = None) -> Samples:
        """Samples float32 (channels, n) at the original's rate, of exactly the original's length."""
        header = self.header(encoded, self.packet_frames())
        blocks = list(self.decode_blocks(encoded.split(self.packet_frames()), header, stages))
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(encoded.tokens), 0), np.float32)

    def decode_media(self, encoded: Encoded, file: IO[bytes], suffix: str = ".wav") -> None:
        """Write the samples as a media file of the format that a suffix names.

        Raises:
            MediaError: there is no such format.
        """
        writer = AudioWriter(file, suffix, AudioFacts(encoded.sample_rate, len(encoded.tokens), encoded.tags))
        frames = self.packet_frames()
        for block in self.decode_blocks(encoded.split(frames), self.header(encoded, frames)):
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
        for part in encoded.split(frames):
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
        return found if kept is None else found.prefix(int(kept.max()))


def _mid_side(block: Samples) -> Samples:
    return _left_right(block) * np.float32(0.5) if len(block) == 2 else block


def _left_right(block: Samples) -> Samples:
    return np.stack([block[0] + block[1], block[0] - block[1]])
