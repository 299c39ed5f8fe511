"""As many stages as a bitrate has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .packets import code_lengths

if TYPE_CHECKING:
    from .codec import Codec
    from .tokens import Encoded


def fill(codec: Codec, encoded: Encoded, kbps: float, packet_seconds: float) -> Encoded:
    """The first stages that fit into an average bitrate, at least one, and one more at the beginning of each packet.

    Args:
        codec: writes the file, of which every byte counts.
        encoded: the tokens; there are some.
        kbps: kbit/s.
        packet_seconds: length of the file's packets.
    """
    frames, budget = codec.packet_frames(packet_seconds), kbps * 125 * encoded.seconds
    stages = encoded.tokens.shape[1]
    spent, places = [], []
    for packet in encoded.split(frames):
        lengths = code_lengths(codec.coder, packet) / 8
        spent.append(np.pad(lengths, ((0, 0), (0, stages - lengths.shape[1]))))
        places.append((np.arange(len(lengths)) + 1) / len(lengths))
    lengths, place = np.concatenate(spent), np.concatenate(places)

    def size(candidate: Encoded) -> int:
        return len(codec.to_bytes(candidate, packet_seconds))

    # The ideal lengths tell nearly where it is; bytes decide.
    keep = max(1, int(np.searchsorted(lengths.sum(0).cumsum(), budget, "right")))
    while (taken := size(found := encoded.prefix(keep))) > budget and keep > 1:
        keep -= 1
    if keep == stages:
        return found
    order = np.argsort(place, kind="stable")
    grown, left = lengths[order, keep].cumsum(), budget - taken
    while (count := int(np.searchsorted(grown, left, "right"))) > 0:
        longer = encoded.thinned(keep + 1, frames, place[order[count - 1]])
        if (over := size(longer) - budget) <= 0:
            return longer
        left = min(left, grown[count - 1]) - over
    return found
