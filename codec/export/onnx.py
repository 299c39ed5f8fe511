"""The networks as ONNX graphs with explicit state, and a codec that runs them by onnxruntime.

`encoder.onnx`: samples (batch, frames · frame) and the past of every causal layer → latents (batch, frames,
D) and the new past. `decoder.onnx`: values (batch, frames, D), stages (batch, 1 or frames) and the past →
samples (batch, frames · frame), late by the decoder's lag, and the new past. The past begins as zeros. Batch
and frames may be any. What is exact, the quantizer, the prior and the coder, stays in Python: a latent on the
border of two cells may become another token than torch's, and any token decodes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ..audio.codec import NeuralAudioCodec
from ..audio.model import AudioModel
from ..audio.networks import TorchNetworks
from ..errors import ModelError
from ..nn.stream_state import History

PARTS = ("encoder", "decoder")


class _Step(nn.Module):
    """One step of a network with its state as inputs and outputs."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, inputs: list[Tensor], past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        history = History()
        history.set_state(self.network, dict(zip(self.names, past, strict=True)))
        y = self.network(*inputs, history)
        state = history.state(self.network)
        return y, [state[name] for name in self.names]


def _example(model: AudioModel, part: str, batch: int, frames: int) -> list[Tensor]:
    config = model.config
    if part == "encoder":
        return [torch.zeros(batch, frames * config.frame)]
    return [
        torch.zeros(batch, frames, model.quantizer.channels),
        torch.ones(batch, frames, dtype=torch.int64),
    ]


def _past(model: AudioModel, part: str, batch: int = 1) -> dict[str, Tensor]:
    """The state at the beginning of a stream, by the names of the layers."""
    history, network = History(), getattr(model, part)
    with torch.no_grad():
        network(*_example(model, part, batch, 1), history)
    return {name: torch.zeros_like(past) for name, past in history.state(network).items()}


def export(model: AudioModel, folder: Path) -> None:
    """Write `encoder.onnx` and `decoder.onnx` into a folder; needs the packages `onnx` and `onnxscript`.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Sizes of 0 and 1 are special to the tracer; examples have others.
    batch, frames = torch.export.Dim("batch", max=1 << 16), torch.export.Dim("frames", max=1 << 16)
    for part in PARTS:
        past = _past(model, part, 3)
        inputs = _example(model, part, 3, 4)
        sizes = (
            [{0: batch, 1: frames * model.config.frame}] if part == "encoder" else [{0: batch, 1: frames}] * 2
        )
        step = _Step(getattr(model, part), list(past)).eval()
        names, result = (["samples"], "latents") if part == "encoder" else (["values", "stages"], "samples")
        with _quiet():
            program = torch.onnx.export(
                step,
                (inputs, list(past.values())),
                dynamo=True,
                dynamic_shapes=(sizes, [{0: batch}] * len(past)),
                input_names=[*names, *(f"past {n}" for n in past)],
                output_names=[result, *(f"next {n}" for n in past)],
                verbose=False,
            )
        assert program is not None
        whole = folder / f".{part}.{os.getpid()}.part"
        program.save(str(whole), external_data=False)
        whole.replace(folder / f"{part}.onnx")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that it could use and names that it does not."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        log.setLevel(level)


class _Graph:
    """A graph that onnxruntime runs in place of a network, whose layers remain as the names of the state."""

    def __init__(self, network: nn.Module, path: Path, past: dict[str, Tensor], threads: int) -> None:
        import onnxruntime

        self._network, self._past = network, past
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        self._names = [value.name for value in self._session.get_inputs()]

    def run(self, inputs: list[Tensor], state: History) -> Tensor:
        """What the network gives for its inputs (streams, …); the state goes on."""
        streams, known = len(inputs[0]), state.state(self._network)
        past = [known[n] if n in known else p.expand(streams, *p.shape[1:]) for n, p in self._past.items()]
        values = [tensor.contiguous().numpy() for tensor in (*inputs, *past)]
        result, *new = self._session.run(None, dict(zip(self._names, values, strict=True)))
        state.set_state(self._network, {n: torch.from_numpy(v) for n, v in zip(self._past, new, strict=True)})
        return torch.from_numpy(result)


class OnnxNetworks(TorchNetworks):
    """Encoder and decoder run by onnxruntime, the quantizer by torch; see `fsqcodec.audio.networks`."""

    def __init__(self, model: AudioModel, folder: Path, threads: int = 1) -> None:
        super().__init__(model)
        self._encoder_graph, self._decoder_graph = (
            _Graph(getattr(model, part), folder / f"{part}.onnx", _past(model, part), threads)
            for part in PARTS
        )

    def _encoder(self, samples: Tensor, state: History) -> Tensor:
        return self._encoder_graph.run([samples], state)

    def _decoder(self, values: Tensor, stages: Tensor, state: History) -> Tensor:
        return self._decoder_graph.run([values, stages], state)


def with_onnx(codec: NeuralAudioCodec, folder: Path | None = None, threads: int = 1) -> NeuralAudioCodec:
    """The same codec with networks run by onnxruntime: faster for live packets, not for whole files.

    Args:
        codec: a model for sound.
        folder: of the graphs; the user's cache when None. Graphs that are not there are exported, which takes
            half a minute.
        threads: of every network.

    Raises:
        ModelError: onnxruntime is not installed, or onnx and onnxscript, which exporting needs, are not.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = folder or cache / "fsqcodec" / f"{codec.name}-{_fingerprint(codec.model)}"
    try:
        import onnxruntime  # noqa: F401

        if not all((place / f"{part}.onnx").exists() for part in PARTS):
            export(codec.model, place)
    except ImportError as error:
        raise ModelError(f"{error.name} is not installed; pip install 'fsqcodec[onnx]' brings it") from None
    return codec.with_networks(OnnxNetworks(codec.model, place, threads))


def _fingerprint(model: AudioModel) -> str:
    """Of all weights: a decoder that was tuned has the same tokens and other graphs."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
