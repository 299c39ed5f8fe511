"""Networks that begin as smaller ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from fsqcodec.checkpoints import visual_weights
from fsqcodec.train.build import load_config
from fsqcodec.train.visual.task import starting_point
from fsqcodec.train.warm_start import load_fitting
from fsqcodec.visual.model import VisualConfig, VisualModel


def test_a_picture_network_grows_as_well() -> None:
    donor = VisualModel(VisualConfig(fine_channels=16, coarse_channels=16))
    for part in (donor.encoder, donor.decoder):
        torch.nn.init.normal_(part.out.weight)  # zeros at first, behind which no block could be seen
    model = VisualModel(replace(donor.config, encoder_blocks=(4, 4), decoder_blocks=(3, 3)))
    load_fitting(model, donor)
    pixels, quality = torch.rand(1, 32, 48, 3) * 2 - 1, torch.tensor([3])
    with torch.no_grad():
        latents = donor.encoder(pixels, quality)
        assert torch.allclose(model.encoder(pixels, quality), latents, atol=1e-5)
        values = donor.quantizer(latents)[0]
        assert torch.allclose(model.decoder(values, quality), donor.decoder(values, quality), atol=1e-5)


def test_a_grown_picture_network_keeps_its_prior(tmp_path: Path) -> None:
    fine, coarse = visual_weights("visual").model.config.encoder_blocks
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "kind: visual\nout: run\ninit: visual\ndata: {sources: [{path: nowhere}]}\n"
        f"model: {{encoder_blocks: [{fine + 1}, {coarse}]}}\n"
    )
    model, prior = starting_point(load_config(recipe))
    assert len(model.encoder.fine) == fine + 1
    prior.quantize()
    shipped = visual_weights("visual").prior
    assert shipped is not None
    exported = prior.export()
    for name in ("point8", "out0", "echo4"):
        assert np.array_equal(exported[name], shipped.tensors[name])
