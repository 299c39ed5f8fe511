"""Files of version 4, written once in November 2026, never again: a program that cannot read them has changed the format."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from fsqcodec.audio.bitstream import AudioBitstream
from fsqcodec.audio.header import AudioHeader
from fsqcodec.audio.tokens import Encoded, StereoRun
from fsqcodec.bitstream.packet import Packet
from fsqcodec.bitstream.reader import Reader, read_index
from fsqcodec.entropy import range_coder
from fsqcodec.entropy.static import StaticTables
from fsqcodec.media.image import from_png
from fsqcodec.quantization.residual_fsq import ResidualFSQ
from fsqcodec.visual.header import SideInfo, VisualHeader
from fsqcodec.visual.model import VisualConfig
from fsqcodec.visual.prior import VisualPrior
from fsqcodec.visual.skip import Skips
from fsqcodec.visual.sound import SoundOf
from helpers import GOLDEN
from numpy.typing import NDArray

SHA256 = {
    "v4": "8b86d6f13e8d4a6603d6858b0bb341eacb9f4946de7863c64e793d895719197d",
    "v4-stereo": "4369367ade4f1f1ac77999a2afb29ef1cd1a00a9689ec4c1571f2ba901a3ada5",
    "v4-picture": "a96d23e272cbb68b77b9567106865cb171bb4955ebc8efec16fcf5851b36cd5e",
    "v4-video": "777bceb6d94ad54f90a015c032f1034ca67e9e6e46967ee8bee518b6a7ae491e",
}
SMALL = VisualConfig(
    fine_channels=16, coarse_channels=16, encoder_blocks=(1, 1), decoder_blocks=(1, 1), groups=4, stages=10,
    stages_per_layer=2, levels=(5, 5), qualities=3, prior_width=12,
)  # fmt: skip


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.fsq").read_bytes()


@pytest.fixture(scope="module")
def tokens() -> dict[str, NDArray[np.integer]]:
    """Of sound, (streams, stages, frames); digits of a picture and of a video, (frames, h, w, passes, D)."""
    return dict(np.load(GOLDEN / "v4.npz"))


@pytest.fixture(scope="module")
def bitstream() -> AudioBitstream:
    """The model of all sound here: it has the static tables of version 1's golden file."""
    facts = json.loads((GOLDEN / "v1.json").read_text())
    quantizer = ResidualFSQ(facts["levels"], facts["groups"], facts["stages"])
    tables = StaticTables(np.load(GOLDEN / "v1.npz")["tables"], quantizer)
    return AudioBitstream("golden", b"\x04golden!", 24000, 480, 0, 7, np.dtype(np.uint8), [tables])


@pytest.fixture(scope="module")
def prior() -> VisualPrior:
    """The prior of the older golden file of pictures."""
    stored = dict(np.load(GOLDEN / "visual.npz"))
    del stored["frames"]
    return VisualPrior(stored, SMALL)


@pytest.mark.parametrize("name", SHA256)
def test_they_are_as_they_were_written(name: str) -> None:
    assert hashlib.sha256(golden(name)).hexdigest() == SHA256[name]
    assert golden(name)[:5] == b"FSQC\x04"


def check_sound(encoded: Encoded, expected: NDArray[np.integer], kept: NDArray[np.integer]) -> None:
    """Tokens and how many stages each frame has are as expected; what has no digits means nothing."""
    present = np.arange(expected.shape[1])[None, :, None] < kept[:, None, :]
    assert encoded.tokens.shape == expected.shape
    assert np.array_equal(encoded.tokens[present], expected[present])
    assert encoded.kept is not None
    assert np.array_equal(encoded.kept, kept)


def test_sound_with_tails_and_an_index(
    tokens: dict[str, NDArray[np.integer]], bitstream: AudioBitstream
) -> None:
    data = golden("v4")
    encoded = bitstream.unpack(data)
    assert (encoded.sample_rate, encoded.samples, encoded.mid_side, encoded.stereo) == (
        16000,
        41600,
        False,
        (),
    )
    assert encoded.tags == {"title": "Größe", "language": "de"}
    kept = np.full((1, 130), 6)
    for start, stop in ((0, 25), (25, 50), (50, 75), (75, 100), (100, 130)):
        kept[0, start : start + int(0.6 * (stop - start))] = 7
    check_sound(encoded, tokens["sound"][:1], kept)
    packets = list(Reader(io.BytesIO(data)))
    assert [packet.tail for packet in packets] == [10, 10, 10, 10, 12]
    assert read_index(io.BytesIO(data)) == [(packet.start, packet.offset) for packet in packets]
    check_packets_written_again(bitstream, encoded, 25, packets)


def test_stereo_in_both_modes(tokens: dict[str, NDArray[np.integer]], bitstream: AudioBitstream) -> None:
    data = golden("v4-stereo")
    encoded = bitstream.unpack(data)
    assert (encoded.sample_rate, encoded.samples) == (44100, 114660)
    assert encoded.stereo == (StereoRun(0, False), StereoRun(50, True), StereoRun(90, False))
    kept = np.full((2, 130), 7)
    kept[0, 120:] = kept[1, 85:90] = 6
    check_sound(encoded, tokens["sound"], kept)
    packets = list(Reader(io.BytesIO(data)))
    assert {(packet.stereo, packet.tail > 0) for packet in packets} == {
        (None, False),
        (None, True),
        (1, False),
        (1, True),
    }
    check_packets_written_again(bitstream, encoded, 40, packets)


def check_packets_written_again(
    bitstream: AudioBitstream, encoded: Encoded, frames: int, packets: Sequence[Packet]
) -> None:
    """The same tokens give the same packets today."""
    assert [p.pack() for p in bitstream.packets(encoded, frames)] == [p.pack() for p in packets]


def digits_of(packet: Packet, prior: VisualPrior, size: tuple[int, int]) -> tuple[SideInfo, NDArray[np.int8]]:
    """Side information of a packet of pictures, and digits (frames, h, w, passes, D)."""
    side = SideInfo.unpack(packet.layers[0], packet.frames)
    decoders = [range_coder.decoder(message) for message in packet.layers[1:]]
    skips, before, frames = Skips(*size), None, []
    for _ in range(packet.frames):
        before = prior.decode(decoders, *size, before, side.quality - 1, skips if side.skipping else None)
        frames.append(before)
    return side, torch.stack(frames).numpy().astype(np.int8)


def test_a_transparent_picture(tokens: dict[str, NDArray[np.integer]], prior: VisualPrior) -> None:
    reader = Reader(io.BytesIO(golden("v4-picture")))
    header = reader.header
    assert isinstance(header, VisualHeader)
    assert (header.width, header.height, header.still, header.transparent) == (50, 40, True, True)
    assert header.table_hash == prior.hash
    assert header.tags == {"title": "Bild"}
    (packet,) = reader
    side, digits = digits_of(packet, prior, (3, 4))
    assert (side.quality, side.times) == (3, (0,))
    opacity = np.full((40, 50), 255)
    opacity[10:20, 5:30] = 128
    assert np.array_equal(from_png(side.transparency), opacity)
    assert np.array_equal(digits, tokens["picture"])
    assert reader.complete


def test_a_video_with_a_second_of_coded_sound(
    tokens: dict[str, NDArray[np.integer]], prior: VisualPrior, bitstream: AudioBitstream
) -> None:
    data = golden("v4-video")
    reader = Reader(io.BytesIO(data))
    header = reader.header
    assert isinstance(header, VisualHeader)
    assert (header.frames, header.grey, header.colours.matrix, header.colours.full) == (12, True, 6, True)
    assert isinstance(header.audio, AudioHeader)
    assert (header.audio.channels, header.audio.samples, header.audio.sample_rate) == (2, 48000, 48000)
    found, times = [], list[int]()
    for packet in reader:
        if packet.stream == 0:
            side, digits = digits_of(packet, prior, (3, 4))
            assert side.skipping
            found.append(digits)
            times += side.times
    assert np.array_equal(np.concatenate(found), tokens["video"])
    assert times == list(range(-3003, 11 * 3003, 3003))
    assert (np.diff(tokens["video"], axis=0) == 0).all((3, 4)).any()  # positions stay as they were
    assert reader.complete
    modes = set()
    for part in bitstream.read(SoundOf(Reader(io.BytesIO(data)))):
        stop = part.start + len(part.tokens)
        assert np.array_equal(part.tokens.T, tokens["sound"][part.stream, :, part.start : stop])
        modes.add((part.start >= 30, part.mid_side))
    assert modes == {(False, True), (True, None)}
