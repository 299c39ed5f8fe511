"""Whole corpora to token shards and back, by any number of processes, resumable after a kill at any moment.

The items of the sources, in a fixed order, are cut into units of `per_shard`; unit i becomes
`shard-00000i.tar` and belongs to process i mod n. A shard appears under its name only when it is complete, so
what exists is done: nothing is missing afterwards and nothing there twice, whatever was killed and with
however many processes it goes on.

A shard is a WebDataset one: for every item `KEY.tokens.npy`, integers (streams, stages, frames), and
`KEY.json` with the original's key, sample rate, length and tags. Beside it `shard-00000i.json` counts what is
in it and lists what could not be read.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.audio.tokens import Encoded, stereo_runs
from fsqcodec.errors import ConfigError, FSQCodecError, ModelError
from numpy.typing import NDArray

from .manifest import Item, list_items

_PLAN = "corpus.json"
Step = Callable[[float], None]
"""Called after every item with its seconds."""


def tokenize(
    codec: NeuralAudioCodec,
    units: list[list[Item]],
    out: Path,
    stages: int | None = None,
    step: Step | None = None,
) -> Iterator[Path]:
    """Write this process's shards of the sources that do not exist yet; gives each path when it is written.

    Args:
        codec: the model.
        units: of a shard each, from `plan`.
        out: folder of the shards.
        stages: keep this many stages; all when None.
        step: tells progress.

    Raises:
        ConfigError: `out` holds shards of other sources or settings.
    """
    import webdataset

    state = PartialState(cpu=True)
    with state.main_process_first():
        _settle(out, codec, units, stages)
    for number in range(state.process_index, len(units), state.num_processes):
        shard = out / f"shard-{number:06d}.tar"
        if shard.exists():
            continue
        part, summary = shard.with_suffix(".part"), _Summary()
        with part.open("wb") as file, webdataset.TarWriter(file, mtime=0) as tar:
            for item in units[number]:
                try:
                    encoded = codec.limit(codec.encode_media(item.open(), item.key), stages=stages)
                except FSQCodecError as error:
                    summary.unreadable.append({"key": item.key, "error": " ".join(str(error).split())})
                    continue
                tar.write(_sample(codec, item, encoded))
                summary.items += 1
                summary.seconds += encoded.seconds
                if step:
                    step(encoded.seconds)
        summary.bytes = part.stat().st_size
        shard.with_suffix(".json").write_text(json.dumps(vars(summary)))
        part.replace(shard)
        yield shard


def plan(sources: Sequence[str], per_shard: int) -> list[list[Item]]:
    """Items of the sources in units of one shard each.

    Args:
        sources: folders, globs, files, lists (`.txt`) and shards of media (`.tar`).
        per_shard: items in a shard.

    Raises:
        ConfigError: nothing is found, or two items have the same key.
    """
    items = [item for source in sources for item in list_items(source)]
    keys: dict[str, Item] = {}
    for item in items:
        other = keys.setdefault(_key(item), item)
        if other is not item:
            raise ConfigError(f"{item.path}: has the key {item.key} of {other.path}; tokenize them apart")
    return [items[start : start + per_shard] for start in range(0, len(items), per_shard)]


@dataclass
class _Summary:
    """What is in a shard."""

    items: int = 0
    seconds: float = 0.0
    bytes: int = 0
    unreadable: list[dict[str, str]] = field(default_factory=list)


def _key(item: Item) -> str:
    """WebDataset ends a key at the first dot of the name."""
    folder, _, name = item.key.rpartition("/")
    return f"{folder}/{name.replace('.', '_')}".lstrip("/")


def _settle(out: Path, codec: NeuralAudioCodec, units: list[list[Item]], stages: int | None) -> None:
    """Remember what the folder's shards are made of, or check that it is the same."""
    digest = hashlib.sha256(json.dumps([[_key(item) for item in unit] for unit in units]).encode())
    facts = {
        "model": codec.name,
        "model_hash": codec.model_hash.hex(),
        "stages": stages,
        "shards": len(units),
        "items": sum(map(len, units)),
        "sources": digest.hexdigest(),
    }
    path = out / _PLAN
    if path.exists():
        if json.loads(path.read_text()) != facts:
            raise ConfigError(
                f"{out}: holds shards of other sources, of another model or settings; choose another --out"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(facts, indent=1))
    part.replace(path)


def _sample(codec: NeuralAudioCodec, item: Item, encoded: Encoded) -> dict[str, Any]:
    array = io.BytesIO()
    np.save(array, encoded.tokens)
    facts = {
        "key": item.key,
        "model": codec.name,
        "model_hash": codec.model_hash.hex(),
        "sample_rate": encoded.sample_rate,
        "samples": encoded.samples,
        "mid_side": encoded.mid_side,
        "stereo": encoded.stereo,
        "tags": encoded.tags,
    }
    return {"__key__": _key(item), "tokens.npy": array.getvalue(), "json": json.dumps(facts).encode()}


@dataclass(frozen=True)
class TokenItem:
    """An item of a token shard."""

    key: str
    """Of the original, with its ending."""
    encoded: Encoded
    model_hash: str


def shards_of(folder: str | Path) -> list[Path]:
    """Token shards of a folder, or one shard.

    Raises:
        ConfigError: there are none.
    """
    path = Path(folder)
    shards = [path] if path.is_file() else sorted(path.glob("*.tar"))
    if not shards:
        raise ConfigError(f"{folder}: no token shards (.tar); `fsqcodec corpus tokenize` writes them")
    return shards


def read_shard(shard: Path) -> Iterator[TokenItem]:
    """The items of a token shard.

    Raises:
        ConfigError: it is none.
    """
    import webdataset

    try:
        for sample in webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False):
            facts = json.loads(sample["json"])
            tokens: NDArray[np.integer] = np.load(io.BytesIO(sample["tokens.npy"]), allow_pickle=False)
            encoded = Encoded(
                tokens,
                facts["sample_rate"],
                facts["samples"],
                facts["mid_side"],
                facts["tags"],
                stereo=stereo_runs(facts.get("stereo", ())),
            )
            yield TokenItem(facts["key"], encoded, facts["model_hash"])
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{shard}: not a token shard ({error!r})") from None


def decode(
    codec: NeuralAudioCodec, folder: str, out: Path, suffix: str = ".wav", step: Step | None = None
) -> int:
    """Write media files of this process's token shards, `out/KEY` with another ending; returns how many.

    Files that exist stay as they are.

    Raises:
        ConfigError: there are no shards.
        ModelError: they were made with another model.
    """
    state, written = PartialState(cpu=True), 0
    for shard in shards_of(folder)[state.process_index :: state.num_processes]:
        for item in read_shard(shard):
            if item.model_hash != codec.model_hash.hex():
                raise ModelError(
                    f"{shard}: made with another model; give the model it was made with by --model"
                )
            target = out / Path(
                *[part for part in Path(item.key).parts if part not in ("..", "/")]
            ).with_suffix(suffix)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f".{target.name}.{state.process_index}.part")
                with part.open("wb") as file:
                    codec.decode_media(item.encoded, file, suffix)
                part.replace(target)
                written += 1
            if step:
                step(item.encoded.seconds)
    return written


def statistics(codec: NeuralAudioCodec, folder: str) -> dict[str, Any]:
    """Hours, use of every stage, and bitrates of token shards.

    Returns:
        `items`, `hours`, `bytes` of the shards, `bytes_an_hour`, `unreadable` (keys and errors), `kbps_fixed`
        (fixed-length codes), `kbps_entropy` (sum of the stages' first-order entropies, bits that ideal static
        tables would spend) and `stages`, rows of `utilisation`, `perplexity` and `entropy`; all per stream of
        sound where that matters.
    """
    size = codec.model.quantizer.codebook_size
    counts = np.zeros((codec.stages, size), np.int64)
    seconds, items, spent, frames = 0.0, 0, 0, 0
    unreadable: list[dict[str, str]] = []
    for shard in shards_of(folder):
        spent += shard.stat().st_size
        summary = shard.with_suffix(".json")
        if summary.exists():
            unreadable += json.loads(summary.read_text())["unreadable"]
        for item in read_shard(shard):
            tokens = item.encoded.tokens
            for stage in range(tokens.shape[1]):
                counts[stage] += np.bincount(tokens[:, stage].ravel().astype(np.int64), minlength=size)
            items, seconds, frames = (
                items + 1,
                seconds + item.encoded.seconds,
                frames + tokens.shape[0] * tokens.shape[2],
            )
    rows = []
    for stage, row in enumerate(counts[counts.sum(1) > 0]):
        share = row[row > 0] / row.sum()
        entropy = float(-(share * np.log2(share)).sum())
        rows.append(
            {"stage": stage, "utilisation": len(share) / size, "perplexity": 2**entropy, "entropy": entropy}
        )
    hours, rate = seconds / 3600, frames / max(seconds, 1e-9) / 1000
    return {
        "items": items,
        "hours": hours,
        "bytes": spent,
        "bytes_an_hour": spent / max(hours, 1e-9),
        "unreadable": unreadable,
        "kbps_fixed": rate * codec.model.quantizer.bits * len(rows),
        "kbps_entropy": rate * sum(row["entropy"] for row in rows),
        "stages": rows,
    }
