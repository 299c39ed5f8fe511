"""Where the bits of files for sound go."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.rate_control import code_lengths
from fsqcodec.bitstream.reader import Reader
from fsqcodec.bitstream.stats import file_stats

from .rows import Row, encoded


def by_layer(codec: NeuralAudioCodec, file: Path, kbps: float) -> Row:
    """Bytes of header, packets and layers of a clip, and what the range coder loses against the ideal.

    Raises:
        MediaError: the file cannot be read.
    """
    data = codec.to_bytes(codec.limit(encoded(codec, file), kbps=kbps))
    stats = file_stats(Reader(io.BytesIO(data), str(file)))
    packets = codec.from_bytes(data).split(codec.bitstream.packet_frames())
    ideal = sum(code_lengths(codec.coder, packet).sum() for packet in packets) / 8
    return {
        "clip": file.name,
        "seconds": stats.seconds,
        "bytes": stats.total,
        "kbps": stats.kbps(),
        "stages": stats.header.stages,
        "overhead_%": 100 * stats.overhead / stats.total,
        "coder_loss_%": 100 * (sum(stats.layers) / ideal - 1),
        **{f"layer{i + 1}_kbps": stats.kbps(size) for i, size in enumerate(stats.layers)},
    }


def use_of_codes(codec: NeuralAudioCodec, files: Sequence[Path]) -> list[Row]:
    """Utilisation, perplexity and entropy of every stage, over all clips.

    Raises:
        MediaError: a file cannot be read.
    """
    quantizer = codec.model.quantizer
    tokens = [torch.from_numpy(encoded(codec, file).tokens[0].astype("int64")).T for file in files]
    return [
        {
            "stage": i + 1,
            "codes": use.size,
            "utilisation": use.utilisation,
            "perplexity": use.perplexity,
            "entropy_bits": use.entropy,
            "fixed_bits": quantizer.bits,
        }
        for i, use in enumerate(quantizer.statistics(torch.cat(tokens)))
    ]
