"""YAML files checked key by key against the dataclasses of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from fsqcodec.errors import ConfigError

from .base import RunConfig


def read_config(path: Path, kinds: Mapping[str, type[RunConfig]], overrides: Sequence[str] = ()) -> RunConfig:
    """Read the YAML file of a run.

    Args:
        path: the file. Its `kind` names the dataclass; without one it is `prior` where there is `prior_of`,
            else `audio`.
        kinds: the dataclass of every kind.
        overrides: settings that win over the file's, such as `optim.steps=2000`.

    Raises:
        ConfigError: the file is missing, is not YAML, or has a key or a value that does not fit.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for override in overrides:
            key, separator, text = override.partition("=")
            if not separator:
                raise ConfigError(f"{override}: an override is written key=value, such as optim.steps=2000")
            *parents, leaf = key.split(".")
            section = values
            for parent in parents:
                section = section.setdefault(parent, {})
            section[leaf] = yaml.safe_load(text)
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from None
    name = "audio"
    if isinstance(values, dict):
        name = str(values.pop("kind", "prior" if "prior_of" in values else name))
    if name not in kinds:
        raise ConfigError(f"{path}: kind {name!r} is none of {', '.join(kinds)}")
    config: RunConfig = _build(kinds[name], values, str(path))
    return config


def _build(kind: Any, values: Any, where: str) -> Any:
    """Values from YAML as an instance of a dataclass, checked key by key."""
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected settings, got {values!r}")
    hints, known = get_type_hints(kind), {f.name: f for f in fields(kind) if f.init}
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
