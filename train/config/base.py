"""Training configuration: YAML files checked against dataclasses."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from fsqcodec.errors import ConfigError


@dataclass
class Source:
    """A folder or file of training media."""

    path: str
    weight: float = 1.0
    """How often its seconds are drawn, relative to the seconds of other sources."""
    match: str = "*"
    """Glob over file names below the folder; several joined by `|`."""
    exclude: str = ""
    """Files to leave out, a glob like `match`."""


@dataclass
class DataConfig:
    """Crops and their augmentation."""

    sources: list[Source]
    crop: float = 1.0
    """Seconds; rounded up to whole latent frames, and the decoder's lag is added."""
    cache: str = "runs/cache"
    """Folder for decoded audio (16-bit, memory-mapped, shared by the workers)."""
    workers: int = 1
    gain_db: tuple[float, float] = (-12.0, 6.0)
    pitch: float = 0.3
    """Share of the crops whose pitch and tempo are shifted by up to three semitones."""
    eq: float = 0.2
    """Share of the crops that go through a random gentle equaliser."""
    room: float = 0.0
    """Share of the crops that are placed in a random room."""
    background: float = 0.0
    """Share of the crops that have noise, or a piece of `backgrounds`, 5 to 25 dB below them."""
    lost: float = 0.0
    """Share of the crops that the decoder does not get all packets of."""
    backgrounds: list[Source] = field(default_factory=list)
    """Music and other sounds."""


@dataclass
class LossConfig:
    """Weights of the losses at the first step and from 70 % of the steps on, linear in between; one number is both.

    The waveform comes first: a network that has learned envelopes of noise does not find back to it.
    """

    waveform: tuple[float, float] = (2.0, 0.15)
    spectrum: tuple[float, float] = (0.0, 3.0)
    mel: tuple[float, float] = (0.0, 3.0)
    loudness: tuple[float, float] = (0.0, 3.0)
    disturbance: tuple[float, float] = (0.0, 1.5)
    similarity: tuple[float, float] = (0.0, 5.0)
    harmonics: tuple[float, float] = (0.0, 2.0)
    rumble: tuple[float, float] = (0.0, 50.0)
    adversarial: tuple[float, float] = (0.0, 0.0)
    """Of what a discriminator, trained alongside, thinks of a reconstruction; for runs of the decoder alone."""
    features: tuple[float, float] = (0.0, 0.0)
    """Of the distance between the discriminator's features."""
    rate: tuple[float, float] = (0.0, 0.0)
    """λ: of the bits a digit that a learned prior, trained alongside, would spend (distortion + λ · rate)."""
    rate_all: tuple[float, float] = (1.0, 1.0)
    """Factor of λ for crops that keep all stages, geometric between one pass over the channels and all."""

    def settled(self) -> LossConfig:
        """The weights of the last steps, from the first on."""
        return LossConfig(*((getattr(self, f.name)[1],) * 2 for f in fields(self)))


@dataclass
class OptimConfig:
    """Optimizer, schedule and length."""

    steps: int = 100_000
    batch: int = 8
    """Crops a step, over all processes together."""
    lr: float = 1e-3
    betas: tuple[float, float] = (0.8, 0.98)
    """Of AdamW."""
    momentum: float = 0.95
    """Of Muon, which moves the hidden matrices."""
    weight_decay: float = 0.01
    warmup: int = 200
    """Steps of linear warm-up."""
    decay: float = 0.3
    """Share of the steps, at the end, over which the rate falls to a fiftieth (warmup-stable-decay)."""
    clip: float = 1.0
    """Norm that the gradient is clipped to."""
    ema: float = 0.999
    dropout: float = 0.4
    """Share of the crops that decode from a random prefix of the stages."""
    no_quantizer: float = 0.05
    """Share of the steps, at the beginning, without rounding."""


@dataclass(kw_only=True)
class RunConfig:
    """What every training run of a codec has."""

    out: str
    """Folder of the run: checkpoints, log, TensorBoard files."""
    model: dict[str, Any] = field(default_factory=dict)
    """Settings of the model (`AudioConfig`, `VisualConfig`) that differ from its defaults."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    seed: int = 0
    init: str = ""
    """Model to start from: a shipped name or a `.safetensors` file; random weights when empty. Settings under
    `model` win over its own: tensors whose shape they change start at random, blocks that it lacks as if they were not
    there."""
    validate: str = ""
    """Folder or glob of media to score now and then; nothing when empty."""
    log_every: int = 50
    validate_every: int = 2000
    save_minutes: float = 5.0
    threads: int = 0
    """CPU threads of each process; torch's choice when 0."""
    mixed_precision: str = "auto"
    """`bf16`, `no`, or `auto`: bf16 where the GPU or the processor has instructions for it (AVX512-BF16, AMX, Arm's)."""
    cuda_graphs: bool = True
    """Record the steps of audio models on one NVIDIA GPU and replay them."""
    compiled: bool = False
    """Compile the blocks and the losses of audio models (`torch.compile`): a minute's work at the start of a run, for
    shorter steps on a GPU; on CPUs it makes nothing faster."""


@dataclass(kw_only=True)
class TrainConfig(RunConfig):
    """One training run of an audio model."""

    data: DataConfig
    loss: LossConfig = field(default_factory=LossConfig)
    parts: str = "all"
    """`all`, or `decoder`: the encoder stays as it is, and with it the meaning of tokens and files."""
    adversary: str = ""
    """Discriminator to start from (`adversary.safetensors` of a run with `loss.adversarial`); random when empty."""


@dataclass
class VisualDataConfig:
    """Crops of pictures and of clips."""

    sources: list[Source]
    crop: int = 128
    """Width and height of crops of pictures, a multiple of 16."""
    clip_crop: int = 96
    """Width and height of crops of clips."""
    frames: int = 4
    """Neighbouring frames in a crop of a clip."""
    clips: float = 0.25
    """Share of the steps that see clips, for the prior of video."""
    cache: str = "runs/cache"
    workers: int = 1


@dataclass
class VisualLossConfig:
    """Distortion and rate: λ · squared error (of 255) + bits, both a picture element."""

    lambdas: tuple[float, float] = (0.0016, 0.06)
    """λ of the lowest and of the highest quality, geometric in between."""
    seams: float = 0.0
    """Weight, beside the squared error, of its steps at block borders where the picture is flat (`seams.seams`)."""


@dataclass(kw_only=True)
class VisualTrainConfig(RunConfig):
    """One training run of a picture model; a YAML file with `kind: visual` is one."""

    kind: str
    data: VisualDataConfig
    loss: VisualLossConfig = field(default_factory=VisualLossConfig)
    quantize_from: float = 0.75
    """Share of the steps after which the prior computes in the steps of its integers."""


@dataclass
class PriorConfig:
    """One fit of the learned prior; a YAML file with `prior_of` is one."""

    out: str
    """Folder of the run."""
    prior_of: str
    """Model whose tokens the prior learns: a shipped name or a `.safetensors` file. It stays as it is."""
    data: DataConfig
    shards: str = ""
    """Token shards (a folder or one) of `fsqcodec corpus tokenize` to learn from; `data` is not encoded then."""
    hours: float = 10.0
    """Tokens to learn from, of random pieces of the data."""
    frames: int = 100
    """Latent frames of a piece; about a packet's, since the context restarts with every packet."""
    width: int = 256
    """Hidden units."""
    start: str = ""
    """Float weights to start from (`prior.safetensors` of a run with `loss.rate`); random when empty."""
    steps: int = 6000
    batch: int = 16
    """Pieces a step, over all processes together."""
    lr: float = 2e-3
    quantize_from: float = 0.7
    """Share of the steps after which weights and activations are those of the integer network."""
    seed: int = 0
    validate: str = ""
    """Folder or glob of media to count bits on in the end."""
    save_minutes: float = 5.0
    threads: int = 0
    mixed_precision: str = "auto"


AnyConfig = TrainConfig | VisualTrainConfig | PriorConfig


def load_config(path: Path, overrides: list[str] | None = None) -> AnyConfig:
    """Read a YAML file; `overrides` are `optim.steps=2000`-like settings that win over it.

    Raises:
        ConfigError: the file is missing, is not YAML, or has a key or a value that does not fit.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for override in overrides or []:
            key, separator, text = override.partition("=")
            if not separator:
                raise ConfigError(f"{override}: an override is written key=value, such as optim.steps=2000")
            *parents, leaf = key.split(".")
            place = values
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = yaml.safe_load(text)
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from None
    kind: type[AnyConfig] = TrainConfig
    if isinstance(values, dict):
        kind = (
            PriorConfig
            if "prior_of" in values
            else VisualTrainConfig
            if values.get("kind") == "visual"
            else kind
        )
    config: AnyConfig = _build(kind, values, str(path))
    return config


def _build(kind: Any, values: Any, where: str) -> Any:
    """Values from YAML as an instance of a dataclass, checked key by key."""
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected settings, got {values!r}")
    hints, known = get_type_hints(kind), {f.name: f for f in fields(kind)}
    if unknown := set(values) - set(known):
        raise ConfigError(f"{where}: unknown setting {sorted(unknown)[0]!r}; there are {', '.join(known)}")
    for name, f in known.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in values:
            raise ConfigError(f"{where}: {name!r} is missing")
    return kind(**{name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()})


_MEANT = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_PAIR = "a list of two numbers, or one for both"


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return _build(hint, value, where)
    if getattr(hint, "__origin__", None) is list:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        return [_convert(get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if hint is str and value is None:  # `validate=` and nothing behind it
        return ""
    if hint is str and isinstance(value, bool):  # YAML takes `no` for false
        return "yes" if value else "no"
    try:
        if hint is bool and not isinstance(value, bool):
            raise ValueError
        if getattr(hint, "__origin__", None) is tuple:
            low, high = value if isinstance(value, list) else (value, value)
            return float(low), float(high)
        if hint in (int, float, str):
            if isinstance(value, bool) or (hint is not str and isinstance(value, list | dict)):
                raise ValueError
            number = hint(value)
            if hint is int and number != float(value):
                raise ValueError
            return number
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: {value!r} does not fit; meant is {_MEANT.get(hint, _PAIR)}") from None
    return value
