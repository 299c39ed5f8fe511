"""ONNX graphs give what torch gives, for any batch and block, and stream with state."""

from __future__ import annotations

from pathlib import Path

import fsqcodec
import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.model import AudioModel
from fsqcodec.checkpoints import save_model
from fsqcodec.entropy.static import StaticTables
from fsqcodec.export.onnx import with_onnx
from helpers import SPEECH, call
from numpy.typing import NDArray

Samples = NDArray[np.float32]


pytestmark = pytest.mark.xdist_group("onnx")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's cache after a live stream by ONNX, which exports the graphs that it lacks."""
    place = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place))
        done = call("stream", SPEECH, place / "heard.wav", "--fast", "--engine", "onnx")
    assert b"kbit/s" in done.stderr
    return place


@pytest.fixture(scope="module")
def folder(cache: Path) -> Path:
    (graph,) = cache.rglob("encoder.onnx")
    return graph.parent


@pytest.fixture(scope="module")
def fast(codec: NeuralAudioCodec, folder: Path) -> NeuralAudioCodec:
    return with_onnx(codec, folder)


def test_graphs_explain_themselves(small_model: AudioModel, folder: Path, tmp_path: Path) -> None:
    tokens = torch.randint(small_model.quantizer.codebook_size, (400, small_model.quantizer.stages))
    tables = StaticTables.estimate(tokens, small_model.quantizer)
    save_model(tmp_path / "small.safetensors", small_model, {}, tables)
    call("export", tmp_path / "small.safetensors", tmp_path / "graphs")
    assert (tmp_path / "graphs" / "decoder.onnx").exists()
    for place in (tmp_path / "graphs", folder):
        session = onnxruntime.InferenceSession(
            str(place / "encoder.onnx"), providers=["CPUExecutionProvider"]
        )
        names = [value.name for value in session.get_inputs()]
        assert names[0] == "samples"
        assert all(name.startswith("past ") for name in names[1:])


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_a_live_stream_is_the_same_by_both(
    codec: NeuralAudioCodec, fast: NeuralAudioCodec, speech: Samples, frames: int
) -> None:
    heard, tokens = [], []
    for engine in (codec, fast):
        sender, receiver = fsqcodec.LiveEncoder(engine, frames), fsqcodec.LiveDecoder(codec)
        packets = sender.push(speech) + sender.flush()
        tokens.append(packets)
        heard.append(np.concatenate([*map(receiver.push, packets), receiver.flush()]))
    by_onnx = fsqcodec.LiveDecoder(fast)
    again = np.concatenate([*map(by_onnx.push, tokens[0]), by_onnx.flush()])
    assert np.abs(again - heard[0]).max() < 1e-3
    # Latents on borders of cells may fall to the other side; what is heard is as near to the original.
    error = [np.square(y[: len(speech)] - speech).sum() for y in heard]
    assert error[1] == pytest.approx(error[0], rel=0.02)


def test_state_can_be_kept_and_batches_run(
    codec: NeuralAudioCodec, fast: NeuralAudioCodec, speech: Samples
) -> None:
    sender = fsqcodec.LiveEncoder(fast, 2)
    sender.push(speech[:9600])
    state = sender.snapshot()
    expected = sender.push(speech[9600:19200])
    sender.restore(state)
    assert sender.push(speech[9600:19200]) == expected
    batch, plain = fsqcodec.BatchEncoder(fast, 3), fsqcodec.BatchEncoder(codec, 3)
    blocks = np.stack(
        [speech[: batch.samples], speech[5000 : 5000 + batch.samples], speech[: batch.samples] * 0]
    )
    batch.push(blocks)
    batch.reset(1)
    assert len(batch.push(blocks)) == len(plain.push(blocks)) == 3


def test_the_stream_command_takes_an_engine(cache: Path, folder: Path) -> None:
    assert soundfile.info(str(cache / "heard.wav")).duration > 2
    assert {graph.name for graph in folder.iterdir()} >= {"encoder.onnx", "decoder.onnx"}
