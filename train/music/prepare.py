"""Cuts free music into one array of pieces to train on: python -m fsqcodec.train.music.prepare SRC OUT.

SRC holds INDEX.tsv, a row a file, with its `seconds`, effective band `band_hz`, `split`, `weight`. OUT gets
- sound.s16: pieces of 4 s, int16 (pieces, 192000, 2) at 48 kHz, raw, to be memory-mapped;
- coefficients.f16: their transform to 20 kHz, 64 times mid and side, float16 (pieces, 200, 2, 800), raw;
- types.npy: the block type of every frame, uint8 (pieces, 200), chosen at a knob of about 25 kbit/s;
- pieces.npz: `band_hz` float32 and `weight` float32 (pieces,).
Rendered files are at most a third of the pieces and brought to one loudness. Single strokes are strung together.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from fsqcodec.music.bands import CODED, Bands
from fsqcodec.music.block_choice import choose_blocks
from fsqcodec.music.transform import LappedTransform
from numpy.typing import NDArray

SECONDS = 4
SAMPLES = 48000 * SECONDS
SCALE = 64
_KNOB = -9.0
_LOUDNESS = 0.1
"""Root mean square that rendered files are brought to."""
_LEAST = 0.01
"""Peak of a piece below which it counts as silent."""


class Analysis:
    """Sound to coefficients in blocks that fit it."""

    def __init__(self) -> None:
        self.transform, self.bands = LappedTransform("vorbis"), Bands()

    def __call__(self, piece: NDArray[np.int16]) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
        """Scaled coefficients, (frames, 2, 800), and block types, (frames,), of a piece, int16 (n, 2)."""
        left, right = torch.from_numpy(piece.T.astype(np.float32) / 32768)
        both = torch.stack((left + right, left - right)) * 0.5**0.5
        types = choose_blocks(both, _KNOB, self.transform, self.bands)
        found = self.transform(both, types)[..., :CODED].transpose(0, 1) * SCALE
        return found.numpy().astype(np.float16), types.to(torch.uint8).numpy()


def decoded(path: Path) -> NDArray[np.float32]:
    """Samples of a file at 48 kHz stereo, float32, (n, 2)."""
    resampler = av.AudioResampler("fltp", "stereo", 48000)
    with av.open(str(path)) as container:
        frames = itertools.chain(container.decode(audio=0), (None,))
        parts = [part.to_ndarray() for frame in frames for part in resampler.resample(frame)]
    return np.concatenate(parts, 1).T.astype(np.float32) if parts else np.zeros((0, 2), np.float32)


def pieces_of(rows: list[dict[str, str]], source: Path) -> Iterator[tuple[NDArray[np.int16], float, float]]:
    """Pieces, int16 (192000, 2), with their band and weight."""
    strokes: dict[tuple[str, float], list[NDArray[np.float32]]] = {}
    for row in rows:
        sound = decoded(source / row["file"])
        band, weight = float(row["band_hz"]), float(row["weight"])
        if row["file"].startswith("rendered"):
            sound *= _LOUDNESS / max(1e-4, float(np.sqrt(np.square(sound).mean())))
        if row["split"] == "extra" and not row["file"].startswith("rendered"):
            kept = strokes.setdefault((row["package"], weight), [])
            kept.append(sound)
            if sum(map(len, kept)) < SAMPLES:
                continue
            sound = np.concatenate(kept)
            kept.clear()
        for start in range(0, len(sound) - SAMPLES + 1, SAMPLES):
            piece = sound[start : start + SAMPLES]
            if np.abs(piece).max() > _LEAST:
                yield np.round(piece.clip(-1, 1) * 32767).astype(np.int16), band, weight


def main() -> None:
    """Write the pieces."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--least-band", type=float, default=15500, help="leave out files of a narrower band")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with (chosen.source / "INDEX.tsv").open(encoding="utf-8") as index:
        rows = [row for row in csv.DictReader(index, delimiter="\t") if row["split"] in ("train", "extra")]
    rows = [row for row in rows if float(row["band_hz"]) >= chosen.least_band or row["split"] == "extra"]
    recorded = [row for row in rows if not row["file"].startswith("rendered")]
    room = sum(float(row["seconds"]) for row in recorded) / 2
    for row in rows:
        if row["file"].startswith("rendered") and room > 0:
            room -= float(row["seconds"])
            recorded.append(row)
    chosen.out.mkdir(parents=True, exist_ok=True)
    analysis, types, facts = Analysis(), [], []
    with (chosen.out / "sound.s16").open("wb") as sound, (chosen.out / "coefficients.f16").open("wb") as file:
        for piece, band, weight in pieces_of(recorded, chosen.source):
            coefficients, kinds = analysis(piece)
            sound.write(piece.tobytes())
            file.write(coefficients.tobytes())
            types.append(kinds)
            facts.append((band, weight))
    np.save(chosen.out / "types.npy", np.stack(types))
    table = np.array(facts, np.float32)
    np.savez(chosen.out / "pieces.npz", band_hz=table[:, 0], weight=table[:, 1])
    share = np.bincount(np.concatenate(types), minlength=3) / np.concatenate(types).size
    print(f"{len(facts)} pieces, {len(facts) * SECONDS / 3600:.2f} h, block types {share.round(3)}")


if __name__ == "__main__":
    main()
