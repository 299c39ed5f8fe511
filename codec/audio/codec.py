"""The codec for sound: a model's networks, search and bitstream put together, between samples, tokens and `.fsq` bytes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..bitstream.writer import PACKET_SECONDS
from ..entropy.base import EntropyModel
from ..entropy.static import StaticTables
from ..errors import ModelError
from ..media.audio import AudioFacts, AudioReader, AudioWriter, Resampler, Samples
from ..progress import Progress
from .bitstream import AudioBitstream
from .channels import ChannelsDecoder, ChannelsEncoder, sample_of, streams_of
from .header import AudioHeader
from .model import AudioConfig, AudioModel
from .networks import AudioNetworks, TorchNetworks
from .prior import Prior
from .rate_control import limit
from .rdo import Effort, optimise
from .tokens import STAGES_PER_LAYER, Encoded, TokenPacket


@dataclass(frozen=True)
class _Source:
    """Sound to be encoded."""

    blocks: Iterable[Samples]
    """(channels, n) at the model's rate."""
    channels: int
    sample_rate: int
    """Hz of the original."""
    length: Callable[[], int]
    """Samples a channel of the original, asked after the last block."""
    tags: dict[str, str]
    name: str = "sound"


class NeuralAudioCodec:
    """The `fsqcodec.AudioCodec` of a convolutional model. Made by `fsqcodec.load`."""

    def __init__(
        self,
        name: str,
        model: AudioModel,
        tables: StaticTables,
        model_hash: bytes,
        metadata: dict[str, Any],
        prior: Prior | None = None,
    ) -> None:
        self.name, self.model, self.tables, self.prior = name, model.eval(), tables, prior
        self.model_hash = model_hash
        self.metadata = metadata
        """Configuration and provenance of the model, as in its file."""
        self.networks: AudioNetworks = TorchNetworks(self.model)
        config = model.config
        self.bitstream = AudioBitstream(
            name,
            model_hash,
            config.sample_rate,
            config.frame,
            config.lag,
            model.quantizer.stages,
            np.min_scalar_type(model.quantizer.codebook_size - 1),
            [prior, tables] if prior else [tables],
        )

    def without_prior(self) -> NeuralAudioCodec:
        """The same codec, writing files with static tables: larger, for decoders without the prior."""
        plain = copy.copy(self)
        plain.bitstream = replace(self.bitstream, coders=self.bitstream.coders[::-1])
        return plain

    def with_networks(self, networks: AudioNetworks) -> NeuralAudioCodec:
        """The same codec with its networks run by another engine."""
        other = copy.copy(self)
        other.networks = networks
        return other

    @property
    def coder(self) -> EntropyModel:
        """See `AudioCodec.coder`."""
        return self.bitstream.coder

    @property
    def sample_rate(self) -> int:
        """See `AudioCodec.sample_rate`."""
        return self.model.config.sample_rate

    @property
    def stages(self) -> int:
        """See `AudioCodec.stages`."""
        return self.model.quantizer.stages

    @property
    def frame_rate(self) -> float:
        """See `AudioCodec.frame_rate`."""
        return self.model.config.frame_rate

    @property
    def delay(self) -> float:
        """Algorithmic delay in seconds: one latent frame is awaited, and the decoder lags."""
        return (self.model.config.frame + self.model.config.lag) / self.sample_rate

    # samples → tokens

    def encode(
        self,
        samples: NDArray[np.floating],
        sample_rate: int | None = None,
        *,
        kbps: float | None = None,
        stages: int | None = None,
        tags: dict[str, str] | None = None,
        effort: int | None = 0,
    ) -> Encoded:
        """See `AudioCodec.encode`."""
        signal = np.atleast_2d(np.asarray(samples, np.float32))
        rate = sample_rate or self.sample_rate
        resampler = Resampler(len(signal), rate, self.sample_rate)
        blocks = (resampler.push(signal), resampler.flush())
        source = _Source(blocks, len(signal), rate, lambda: signal.shape[1], tags or {})
        return self._encode(source, Effort(effort), kbps, stages)

    def encode_media(
        self,
        source: str | Path | IO[bytes],
        name: str | None = None,
        *,
        kbps: float | None = None,
        packet_seconds: float = PACKET_SECONDS,
        effort: int | None = 0,
        progress: Progress | None = None,
    ) -> Encoded:
        """See `AudioCodec.encode_media`."""
        with AudioReader(source, self.sample_rate, name) as reader:
            facts, label = reader.facts, Path(name or str(source)).name
            if progress:
                progress.start(label, reader.duration)
            sound = _Source(
                self._watched(reader, progress),
                facts.channels,
                facts.sample_rate,
                lambda: reader.samples_in,
                facts.tags,
                label,
            )
            return self._encode(sound, Effort(effort), kbps, None, packet_seconds, progress)

    def _watched(self, blocks: Iterable[Samples], progress: Progress | None) -> Iterator[Samples]:
        for block in blocks:
            yield block
            if progress:
                progress.advance(block.shape[1] / self.sample_rate)

    def _encode(
        self,
        source: _Source,
        effort: Effort,
        kbps: float | None,
        stages: int | None,
        packet_seconds: float = PACKET_SECONDS,
        progress: Progress | None = None,
    ) -> Encoded:
        """Tokens of blocks as they come; memory holds one block and tokens, and the samples where there is a search."""
        encoder = ChannelsEncoder(self.networks, source.channels, self.bitstream.dtype)
        room, kept = effort.longest * self.sample_rate, list[Samples]()
        for block in source.blocks:
            encoder.push(block)
            room -= block.shape[1]
            if room < 0:
                kept.clear()
            else:
                kept.append(block)
        length = source.length()
        tokens = encoder.finish(length, source.sample_rate)
        runs = tuple(encoder.stereo)
        mid_side = bool(runs) and runs[0].mid_side
        stereo = runs if len(runs) > 1 else ()
        encoded = Encoded(tokens, source.sample_rate, length, mid_side, source.tags, stereo=stereo)
        steps = effort.resolve(encoded.seconds, self.prior, self.name)
        if not steps or not kept or self.prior is None:
            return self.limit(encoded, kbps=kbps, stages=stages, packet_seconds=packet_seconds)
        return optimise(
            self.model,
            self.prior,
            self.bitstream,
            self.limit(encoded, stages=stages),
            streams_of(np.concatenate(kept, axis=1), runs, self.networks.frame),
            steps,
            kbps,
            packet_seconds,
            progress,
            source.name,
        )

    def limit(
        self,
        encoded: Encoded,
        *,
        kbps: float | None = None,
        stages: int | None = None,
        packet_seconds: float = PACKET_SECONDS,
    ) -> Encoded:
        """See `AudioCodec.limit`."""
        return limit(encoded, self.bitstream, kbps=kbps, stages=stages, packet_seconds=packet_seconds)

    # tokens → samples

    def decode(self, encoded: Encoded, *, stages: int | None = None) -> Samples:
        """See `AudioCodec.decode`."""
        blocks = list(self._blocks(encoded, stages))
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(encoded.tokens), 0), np.float32)

    def decode_media(self, encoded: Encoded, file: IO[bytes], suffix: str = ".wav") -> None:
        """See `AudioCodec.decode_media`."""
        writer = AudioWriter(file, suffix, AudioFacts(encoded.sample_rate, len(encoded.tokens), encoded.tags))
        for block in self._blocks(encoded):
            writer.write(block)
        writer.close()

    def _blocks(self, encoded: Encoded, stages: int | None = None) -> Iterator[Samples]:
        frames = self.bitstream.packet_frames()
        return self.decode_blocks(encoded.split(frames), self.bitstream.header(encoded, frames), stages)

    def decode_blocks(
        self, packets: Iterable[TokenPacket], header: AudioHeader, stages: int | None = None, first: int = 0
    ) -> Iterator[Samples]:
        """Blocks float32 (channels, n) at the original's rate; lost frames are silence.

        Args:
            packets: in order of time; a gap between packets of a stream stands for lost frames.
            header: facts of the original.
            stages: decode at most this many.
            first: latent frame that the packets begin with; the blocks begin with its first sample.
        """
        decoder = ChannelsDecoder(self.networks, header, stages, first)
        for packet in packets:
            block = decoder.push(packet)
            if block.shape[1]:
                yield block
        block = decoder.finish()
        if block.shape[1]:
            yield block

    def sample_of(self, frame: int, sample_rate: int) -> int:
        """The sample, at an original's rate, that a latent frame begins with."""
        return sample_of(frame, self.networks, sample_rate)

    # tokens ↔ bytes

    def write(self, encoded: Encoded, file: IO[bytes], packet_seconds: float = PACKET_SECONDS) -> int:
        """See `AudioCodec.write`."""
        return self.bitstream.write(encoded, file, packet_seconds)

    def to_bytes(self, encoded: Encoded, packet_seconds: float = PACKET_SECONDS) -> bytes:
        """See `AudioCodec.to_bytes`."""
        return self.bitstream.pack(encoded, packet_seconds)

    def from_bytes(self, data: bytes, name: str = "bytes") -> Encoded:
        """See `AudioCodec.from_bytes`."""
        return self.bitstream.unpack(data, name)


class AudioWeights(NamedTuple):
    """Contents of an audio model's file."""

    model: AudioModel
    """Networks, float32."""
    tables: StaticTables | None
    prior: Prior | None

    @classmethod
    def restore(
        cls, config: dict[str, Any], tensors: dict[str, Tensor], integers: dict[str, NDArray[np.integer]]
    ) -> AudioWeights:
        """The weights of a model file's configuration, tensors and integers of the prior.

        Raises:
            ValueError: they do not fit together.
            ModelError: the prior is damaged.
        """
        model = AudioModel(AudioConfig.from_dict(config))
        frequencies = tensors.pop("tables", None)
        model.load_state_dict(tensors)
        tables = None if frequencies is None else StaticTables(frequencies.int().numpy(), model.quantizer)
        return cls(model, tables, Prior(integers, model.quantizer, STAGES_PER_LAYER) if integers else None)

    def codec(self, name: str, model_hash: bytes, metadata: dict[str, Any]) -> NeuralAudioCodec:
        """The codec of these weights.

        Raises:
            ModelError: they are not finished.
        """
        if self.tables is None:
            raise ModelError("has no frequency tables; take a model that `fsqcodec train` wrote")
        return NeuralAudioCodec(name, self.model, self.tables, model_hash, metadata, self.prior)
