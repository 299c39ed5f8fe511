"""As many stages as a bitrate has room for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..bitstream.writer import PACKET_SECONDS
from ..entropy.base import EntropyModel
from .bitstream import AudioBitstream
from .tokens import Encoded, TokenPacket


def limit(
    encoded: Encoded,
    bitstream: AudioBitstream,
    *,
    kbps: float | None = None,
    stages: int | None = None,
    packet_seconds: float = PACKET_SECONDS,
) -> Encoded:
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
    return fit(encoded, bitstream, kbps, packet_seconds) if kbps and encoded.samples else encoded


def fit(encoded: Encoded, bitstream: AudioBitstream, kbps: float, packet_seconds: float) -> Encoded:
    """The first stages that fit into an average bitrate, at least one, and one more at the beginning of each packet.

    Args:
        encoded: the tokens; there are some.
        bitstream: writes the file, of which every byte counts.
        kbps: kbit/s.
        packet_seconds: length of the file's packets.
    """
    frames, budget = bitstream.packet_frames(packet_seconds), kbps * 125 * encoded.seconds
    stages = encoded.tokens.shape[1]
    spent, shares = [], []
    for packet in encoded.split(frames):
        lengths = code_lengths(bitstream.coder, packet) / 8
        spent.append(np.pad(lengths, ((0, 0), (0, stages - lengths.shape[1]))))
        shares.append((np.arange(len(lengths)) + 1) / len(lengths))
    lengths, share = np.concatenate(spent), np.concatenate(shares)

    def size(candidate: Encoded) -> int:
        return len(bitstream.pack(candidate, packet_seconds))

    # The ideal lengths tell nearly where it is; bytes decide.
    keep = max(1, int(np.searchsorted(lengths.sum(0).cumsum(), budget, "right")))
    fitting = encoded.prefix(keep)
    taken = size(fitting)
    while taken > budget and keep > 1:
        keep -= 1
        fitting = encoded.prefix(keep)
        taken = size(fitting)
    if keep == stages:
        return fitting
    order = np.argsort(share, kind="stable")
    grown, left = lengths[order, keep].cumsum(), budget - taken
    while (count := int(np.searchsorted(grown, left, "right"))) > 0:
        longer = encoded.thinned(keep + 1, frames, share[order[count - 1]])
        over = size(longer) - budget
        if over <= 0:
            return longer
        left = min(left, grown[count - 1]) - over
    return fitting


def code_lengths(coder: EntropyModel, packet: TokenPacket) -> NDArray[np.float64]:
    """Ideal code lengths of a packet in bits, (frames, n); 0 where a stage was left out."""
    written = np.arange(packet.tokens.shape[1]) < packet.kept()[:, None]
    return np.where(written, coder.bits(packet.tokens), 0.0)
