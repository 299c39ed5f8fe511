"""Training of picture models."""

from __future__ import annotations

from pathlib import Path

import fsqcodec
import numpy as np
import torch
from fsqcodec.train.build import build_trainer, load_config
from fsqcodec.train.visual.task import _coded
from media import picture, write_video
from PIL import Image

RECIPE = """
kind: visual
out: {out}
seed: 2
data: {{crop: 32, clip_crop: 32, clips: 0.5, cache: {cache}, workers: 0, sources: [{{path: {media}}}]}}
model: {{fine_channels: 16, coarse_channels: 16, encoder_blocks: [1, 1], decoder_blocks: [1, 1], groups: 4, stages: 10,
  stages_per_layer: 2, levels: [5, 5], qualities: 3, prior_width: 12}}
optim: {{steps: 100, batch: 4, warmup: 5, lr: 0.002, ema: 0.9, no_quantizer: 0}}
log_every: 1
save_minutes: 60
mixed_precision: "no"
threads: 1
"""


def test_a_picture_model_trains_and_ships(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    for i in range(6):
        Image.fromarray(picture(64, 96, 31.0 * i)).save(tmp_path / "media" / f"p{i}.png")
    write_video(tmp_path / "media" / "c.mkv", 6)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(out=tmp_path / "run", cache=tmp_path / "cache", media=tmp_path / "media"))
    trainer = build_trainer(load_config(recipe), lambda _: None)
    first = trainer.task.data[0]
    assert torch.equal(first["frames"], trainer.task.data[0]["frames"])
    items = [trainer.task.data[i] for i in range(400, 440) if len(trainer.task.data[i]["frames"]) == 1]
    batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def terms() -> dict[str, float]:
        with torch.no_grad():
            _, shown = trainer.task.loss(trainer.model, trainer.auxiliary, batch, lambda ends: ends[1], 1.0)
        return {name: float(value) for name, value in shown.items()}

    before = terms()
    trainer.run()
    after = terms()  # eight principal components leave the distortion little room
    assert after["loss"] < before["loss"]
    assert after["bpp"] < 0.97 * before["bpp"]
    codec = fsqcodec.load(tmp_path / "run" / "model.safetensors")
    assert codec.metadata["train"]["steps"] == 100
    data = codec.encode_picture(picture(40, 40), 2)
    assert codec.decode_picture(data).shape == (40, 40, 3)


def test_training_holds_what_does_not_move(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    for i in range(6):
        Image.fromarray(picture(64, 96)).save(tmp_path / "media" / f"p{i}.png")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(out=tmp_path / "run", cache=tmp_path / "cache", media=tmp_path / "media"))
    task = build_trainer(load_config(recipe), lambda _: None).task
    frames = np.stack([picture(32, 64)] * 3)
    frames[1, :, :16] = (
        255 - frames[1, :, :16]
    )  # the left edge changes and changes back, the rest flickers a little
    frames[2, 4, 40] += 1
    x = torch.from_numpy(frames).float() / 127.5 - 1
    quality, stages = torch.zeros(3, dtype=torch.long), torch.full((3,), 10)
    seen: list[torch.Tensor] = []

    def hold(*parts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        held: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = task._skip(3, *parts)
        seen.extend(held)
        return held

    _, tokens, z = task.model(x, quality, stages, hold)
    assert torch.equal(tokens[1, :, 2:], tokens[0, :, 2:])
    assert torch.equal(z[2, :, 2:], z[0, :, 2:])
    assert not torch.equal(tokens[1, :, :1], tokens[0, :, :1])
    assert not torch.equal(tokens[2, :, :1], tokens[1, :, :1])
    assert torch.allclose(task.model.quantizer.decode(tokens), seen[1], atol=1e-5)
    coded = _coded(tokens, 3)
    assert coded[0].all()
    assert not coded[1:, :, 2:].any()
    assert coded[1:, :, 0].all()
