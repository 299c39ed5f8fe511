"""Training: configuration, data, resume, several processes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fsqcodec
import numpy as np
import psutil
import pytest
import torch
from fsqcodec.audio.blocks import Block
from fsqcodec.checkpoints import load_visual
from fsqcodec.errors import ConfigError
from fsqcodec.losses.reconstruction import ReconstructionLoss
from fsqcodec.nn.stft import spectra
from fsqcodec.train.augment import SNR, noise, place_in_room, put_behind
from fsqcodec.train.config import DataConfig, Source, load_config
from fsqcodec.train.data import Crops, with_gaps
from fsqcodec.train.donor import take_fitting
from fsqcodec.train.items import list_media
from fsqcodec.train.loop import Trainer, learning_rate
from fsqcodec.train.muon import Muon, hidden_matrices
from fsqcodec.train.prior import code_lengths
from fsqcodec.train.seams import seams
from fsqcodec.train.visual_task import starting_point
from fsqcodec.visual.model import VisualConfig, VisualModel
from helpers import RECIPE, ROOT, SPEECH


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(out=tmp_path / "run", cache=tmp_path / "cache", speech=SPEECH, steps=30))
    return path


def _losses(folder: Path, name: str = "loss") -> dict[int, float]:
    with (folder / "log.csv").open() as table:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(table)}


def _trainer(recipe: Path, *settings: str) -> Trainer:
    return Trainer(load_config(recipe, list(settings)), lambda _: None)


def test_a_run_learns_and_its_model_works(recipe: Path, tmp_path: Path) -> None:
    _trainer(recipe).run()
    losses = _losses(tmp_path / "run")
    assert np.mean([losses[s] for s in range(26, 31)]) < 0.6 * np.mean([losses[s] for s in range(1, 4)])
    codec = fsqcodec.load(tmp_path / "run" / "model.safetensors")
    assert codec.metadata["train"]["steps"] == 30
    audio = np.zeros(24000, np.float32)
    assert codec.decode(codec.from_bytes(codec.to_bytes(codec.encode(audio)))).shape == (1, 24000)


def test_resume_goes_on_as_if_it_had_not_stopped(recipe: Path, tmp_path: Path) -> None:
    _trainer(recipe, f"out={tmp_path / 'whole'}").run()
    trainer = _trainer(recipe, f"out={tmp_path / 'parts'}")
    original = trainer.train_step

    def stop_at_12(batch: dict[str, torch.Tensor]) -> dict[str, float]:
        if trainer.step == 12:
            raise KeyboardInterrupt  # as abrupt as a crash: what counts is the last checkpoint
        return original(batch)

    trainer.train_step = stop_at_12  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = _trainer(recipe, f"out={tmp_path / 'parts'}")
    assert again.step == 12
    again.run()
    whole, parts = _losses(tmp_path / "whole"), _losses(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(whole[s] == pytest.approx(parts[s], rel=1e-4, abs=1e-4) for s in whole)
    state = torch.load(tmp_path / "parts" / "last.pt", weights_only=True)
    del state["optimizers"]
    torch.save(state, tmp_path / "parts" / "last.pt")
    with pytest.raises(ConfigError, match="older version"):
        _trainer(recipe, f"out={tmp_path / 'parts'}")


def _two_processes(recipe: Path, *settings: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a training run by two processes without a GPU."""
    launch = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "fsqcodec.cli.main",
    ]
    command = [sys.executable, *launch, "train", str(recipe), *settings]
    return command, {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize("setting", ["seed=3", "loss.features=[0.01, 0.01]"])
def test_two_processes_learn_like_one_with_the_same_global_batch(
    recipe: Path, tmp_path: Path, setting: str
) -> None:
    _trainer(recipe, f"out={tmp_path / 'one'}", setting).run()
    command, environment = _two_processes(recipe, f"out={tmp_path / 'two'}", setting)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = _losses(tmp_path / "one"), _losses(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(one[s] == pytest.approx(two[s], rel=0.02, abs=0.02) for s in one)
    metadata = fsqcodec.load(tmp_path / "two" / "model.safetensors").metadata
    assert metadata["train"]["processes"] == 2


def test_two_processes_stop_together_when_one_is_asked_and_resume(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command, environment = _two_processes(recipe, "optim.steps=1000000", "save_minutes=60")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as run:
        try:
            begun = time.monotonic()
            while not (out / "log.csv").exists() or len(_losses(out)) < 3:
                assert run.poll() is None
                assert time.monotonic() - begun < 200
                time.sleep(0.1)
            children = psutil.Process(run.pid).children()
            next(child for child in children if child.environ().get("RANK") == "1").terminate()
            printed, _ = run.communicate(timeout=60)
        finally:
            run.terminate()
    assert run.returncode == 0, printed.decode()[-2000:]
    stopped = torch.load(out / "last.pt", weights_only=True)["step"]
    assert stopped == max(_losses(out))
    command, environment = _two_processes(recipe, f"optim.steps={stopped + 2}")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert max(_losses(out)) == stopped + 2


def test_a_run_that_is_told_twice_to_stop_still_saves(recipe: Path, tmp_path: Path) -> None:
    """Schedulers tell all processes, and launchers pass it on."""
    script = f"""
import signal
from pathlib import Path
from fsqcodec.train.config import load_config
from fsqcodec.train.loop import Trainer
def tell(step, steps, values):
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
Trainer(load_config(Path({str(recipe)!r})), print).run(tell)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 1


@pytest.mark.parametrize("shape", [(24, 64), (64, 24)])
def test_muon_moves_all_directions_alike(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    u, sizes, v = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    sizes = torch.linspace(1, 0.01, len(sizes))
    weight = torch.nn.Parameter(torch.zeros(shape))
    muon = Muon([weight], lr=0.01, momentum=0.9, weight_decay=0.0, dtype=torch.float32)
    weight.grad = u * sizes @ v
    muon.step()
    moved = u.T @ -weight.detach() @ v.T / (0.2 * 0.01 * max(shape) ** 0.5)
    assert ((moved.diag() > 0.3) & (moved.diag() < 1.7)).all()
    assert (moved - moved.diag().diag()).abs().max() < 1e-3
    still = torch.nn.Parameter(torch.ones(shape))
    still.grad = torch.zeros(shape)  # as behind a block that passes everything on
    Muon([still], lr=0.01, momentum=0.9, weight_decay=0.0).step()
    assert (still == 1).all()


def test_muon_takes_what_is_trained_in_blocks_and_nothing_else(recipe: Path) -> None:
    for parts, networks in (("all", 2), ("decoder", 1)):
        trainer = _trainer(recipe, f"parts={parts}")
        hidden = hidden_matrices(trainer._bare())
        assert len(hidden) == networks * 2 * 2  # blocks of one and of the other rate, two matrices each
        adamw, muon = ({id(p) for g in o.param_groups for p in g["params"]} for o in trainer.optimizers)
        assert muon == {id(p) for p in hidden}
        assert adamw == {id(p) for p in trainer._bare().parameters() if p.requires_grad} - muon


def test_a_step_that_is_not_finite_is_skipped_and_counted(recipe: Path) -> None:
    trainer = _trainer(recipe)
    batch = {k: v[None].expand(4, *v.shape).clone() for k, v in trainer.task.data[0].items()}
    before = {k: v.clone() for k, v in trainer._bare().state_dict().items()}
    trainer.train_step({**batch, "audio": batch["audio"] * float("nan")})
    assert trainer.skipped == 1
    assert all(torch.equal(v, before[k]) for k, v in trainer._bare().state_dict().items())
    trainer.train_step(batch)
    assert trainer.skipped == 1
    assert any(not torch.equal(v, before[k]) for k, v in trainer._bare().state_dict().items())


def test_a_measure_that_changes_the_threads_does_not_slow_training_down(recipe: Path) -> None:
    class Greedy:
        def score(self, model: object) -> dict[str, float]:
            torch.set_num_threads(2)
            return {"quality": 1.0}

        def write_samples(self, *_: object) -> None: ...

    trainer = _trainer(recipe, "optim.steps=3", "validate_every=1")
    trainer.task.judge = Greedy  # type: ignore[method-assign,assignment]
    trainer.run()
    assert torch.get_num_threads() == 1


def test_what_was_trained_is_saved_before_it_is_judged(recipe: Path, tmp_path: Path) -> None:
    class Failing:
        def score(self, model: object) -> dict[str, float]:
            raise MemoryError

    trainer = _trainer(recipe, "optim.steps=3", "validate_every=2", "save_minutes=1000")
    trainer.task.judge = Failing  # type: ignore[method-assign,assignment]
    with pytest.raises(MemoryError):
        trainer.run()
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 2


def test_init_starts_from_a_shipped_model(recipe: Path) -> None:
    trainer = _trainer(recipe, "init=speech-24k", "model={}")
    assert trainer.task.model.config == fsqcodec.load("speech-24k").model.config


def test_init_goes_on_with_the_prior_that_a_model_has(recipe: Path, speech: np.ndarray) -> None:
    trainer = _trainer(recipe, "init=speech-24k", "model={}", "loss.rate=[1, 1]")
    codec = fsqcodec.load("speech-24k")
    assert codec.prior
    tokens = codec.encode(speech).tokens[0, :, :100].T.astype(np.int64)
    digits = codec.model.quantizer.stage_digits(torch.from_numpy(tokens))[None]
    with torch.no_grad():
        bits = code_lengths(trainer.beside["prior"](digits), digits).sum((0, 1, 3))
    assert np.allclose(bits.numpy(), codec.prior.bits(tokens).sum(0), rtol=0.03)


def test_a_changed_shape_keeps_the_tensors_that_still_fit(recipe: Path) -> None:
    donor = fsqcodec.load("speech-24k").model
    trainer = _trainer(recipe, "init=speech-24k", "model={groups: 16, stages: 20}")
    model = trainer._bare()
    assert model.quantizer.groups == 16
    assert torch.equal(model.encoder.down.weight, donor.encoder.down.weight)
    assert model.encoder.out.weight.shape[0] == 16 * len(donor.config.levels)


def test_a_network_grown_deeper_begins_as_its_donor(recipe: Path, speech: np.ndarray) -> None:
    donor = fsqcodec.load("speech-24k").model
    coarse, fine = (count + 1 for count in donor.config.decoder_blocks[::-1])
    model = _trainer(recipe, "init=speech-24k", f"model={{decoder_blocks: [{fine}, {coarse}]}}")._bare()
    assert len(model.decoder.coarse) == coarse
    assert len(model.decoder.fine) == fine
    clip = torch.from_numpy(speech[None, :24000])
    with torch.no_grad():
        tokens = donor.encode(clip)[0]
        assert torch.equal(model.encode(clip)[0], tokens)
        assert torch.allclose(model.decode(tokens), donor.decode(tokens), atol=1e-5)


def test_a_picture_network_grows_as_well() -> None:
    donor = VisualModel(VisualConfig(fine_channels=16, coarse_channels=16))
    for part in (donor.encoder, donor.decoder):
        torch.nn.init.normal_(part.out.weight)  # zeros at first, behind which no block could be seen
    model = VisualModel(replace(donor.config, encoder_blocks=(4, 4), decoder_blocks=(3, 3)))
    take_fitting(model, donor)
    pixels, quality = torch.rand(1, 32, 48, 3) * 2 - 1, torch.tensor([3])
    with torch.no_grad():
        latents = donor.encoder(pixels, quality)
        assert torch.allclose(model.encoder(pixels, quality), latents, atol=1e-5)
        values = donor.quantizer(latents)[0]
        assert torch.allclose(model.decoder(values, quality), donor.decoder(values, quality), atol=1e-5)


def test_a_grown_picture_network_keeps_its_prior(tmp_path: Path) -> None:
    fine, coarse = load_visual("visual").model.config.encoder_blocks
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "kind: visual\nout: run\ninit: visual\ndata: {sources: [{path: nowhere}]}\n"
        f"model: {{encoder_blocks: [{fine + 1}, {coarse}]}}\n"
    )
    model, prior = starting_point(load_config(recipe))
    assert len(model.encoder.fine) == fine + 1
    prior.quantize()
    shipped = load_visual("visual").prior
    assert shipped is not None
    exported = prior.export()
    for name in ("point8", "out0", "echo4"):
        assert np.array_equal(exported[name], shipped.tensors[name])


def test_seams_are_steps_at_borders_where_nothing_hides_them() -> None:
    flat = torch.full((1, 32, 48, 3), 40.0)
    busy = flat + torch.randint(-30, 31, flat.shape, generator=torch.Generator().manual_seed(0))
    stepped, inside = torch.zeros_like(flat), torch.zeros_like(flat)
    stepped[:, :, 16:] = 2
    inside[:, :, 20:] = 2
    assert float(seams(flat + stepped, flat)) == pytest.approx(
        2.0**2 / 5 / 2
    )  # one border of five, one axis of two
    assert float(seams(flat + inside, flat)) == 0
    assert float(seams(flat + 2, flat)) == 0
    assert float(seams(busy + stepped, busy)) < 0.05 * float(seams(flat + stepped, flat))


def test_the_rate_term_takes_bits_off(recipe: Path, tmp_path: Path) -> None:
    for name, weight in (("free", 1e-9), ("pressed", 100)):
        _trainer(recipe, f"out={tmp_path / name}", f"loss.rate=[{weight:.9f}, {weight}]").run()
    free, pressed = (_losses(tmp_path / name, "rate") for name in ("free", "pressed"))
    assert free[30] < free[1] == pytest.approx(np.log2(5), abs=0.3)
    assert pressed[30] < 0.9 * free[30]


def test_crops_depend_on_the_seed_and_their_number_only(tmp_path: Path) -> None:
    config = DataConfig([Source(str(SPEECH))], cache=str(tmp_path), pitch=0.5, eq=0.5)
    crops, same = (Crops(config, 24000, 4800, 12, 0.5, seed=5) for _ in range(2))
    other = Crops(config, 24000, 4800, 12, 0.5, seed=6)
    for i in (3, 0, 7, 3):
        assert torch.equal(crops[i]["audio"], same[i]["audio"])
        assert crops[i]["audio"].shape == (4800,)
        assert crops[i]["audio"].abs().max() <= 1
    assert not torch.equal(crops[3]["audio"], other[3]["audio"])
    stages = torch.stack([crops[i]["stages"] for i in range(300)])
    assert 0.3 < (stages < 12).float().mean() < 0.6
    assert int(stages.min()) >= 1


def test_sources_have_weights_and_bad_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.wav").write_bytes(SPEECH.read_bytes())
    (tmp_path / "media" / "b.wav").write_bytes(b"rubbish")
    lines: list[str] = []
    sources = [Source(str(tmp_path / "media"), 3.0), Source(str(SPEECH), 1.0)]
    crops = Crops(DataConfig(sources, cache=str(tmp_path / "c")), 24000, 4800, 12, 0, 1, lines.append)
    assert len(crops.clips) == 2
    assert crops.chances == pytest.approx([0.75, 1.0])
    assert len(lines) == 1
    assert "b.wav" in lines[0]
    (tmp_path / "media" / "report.HTML").write_text("a report of ours")
    assert "report.HTML" not in [file.name for file in list_media(str(tmp_path / "media"))]
    with pytest.raises(ConfigError, match="no such file or folder"):
        list_media(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="none of the training sources"):
        Crops(
            DataConfig([Source(str(tmp_path / "media" / "b.wav"))], cache=str(tmp_path / "c")),
            24000,
            10,
            1,
            0,
            1,
            lines.append,
        )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("out: x", "'data' is missing"),
        ("out: x\ndata: {sources: [{path: a, wieght: 2}]}", "wieght"),
        ("out: x\ndata: {sources: []}\noptim: {steps: many}", "'many' does not fit"),
        ("out: x\ndata: {sources: []}\noptim: {steps: 1.5}", "does not fit"),
        ("out: x\ndata: {sources: []}\nloss: {mel: [1, 2, 3]}", "two numbers, or one for both"),
        ("out: [", "YAML"),
        ("out: x\ndata: 5", "expected settings"),
    ],
)
def test_wrong_configurations_say_where(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)


def test_one_number_is_a_weight_from_first_to_last_step(recipe: Path) -> None:
    loss = load_config(recipe, ["loss.mel=3", "loss.rate=[5, 12]"]).loss
    assert (loss.mel, loss.rate) == ((3.0, 3.0), (5.0, 12.0))


def test_a_setting_can_be_emptied(recipe: Path) -> None:
    assert load_config(recipe, ["validate=", "init="]).validate == ""


def test_the_shipped_recipe_is_what_made_the_shipped_model() -> None:
    recipe = load_config(ROOT / "train" / "configs" / "speech-24k.yaml")
    made = fsqcodec.load("speech-24k").metadata["train"]["config"]
    assert json.loads(json.dumps(made["data"]["sources"])) == [vars(s) for s in recipe.data.sources]


def test_schedule() -> None:
    config = load_config(ROOT / "train" / "configs" / "speech-24k.yaml").optim
    rates = [learning_rate(s, config) for s in range(config.steps + 1)]
    assert rates[0] < rates[config.warmup] == config.lr == max(rates)
    assert rates[config.steps] == pytest.approx(config.lr / 50)


@pytest.mark.parametrize(("samples", "size", "hop"), [(3000, 512, 128), (3001, 768, 384), (2048, 2048, 512)])
def test_spectra_and_their_gradient_are_those_of_the_transform(samples: int, size: int, hop: int) -> None:
    x = torch.randn(2, samples, dtype=torch.float64, requires_grad=True)
    window = torch.hann_window(size, dtype=torch.float64)
    wanted = torch.fft.rfft(x.unfold(1, size, hop) * window)
    parts, expected = spectra(x, window, hop), (wanted.real, wanted.imag)
    weights = [torch.randn_like(part) for part in expected]
    slopes = [
        torch.autograd.grad(sum((a * b).sum() for a, b in zip(weights, both, strict=True)), x)[0]
        for both in (parts, expected)
    ]
    assert all(torch.equal(a, b) for a, b in zip(parts, expected, strict=True))
    assert torch.allclose(*slopes)


def test_code_lengths_are_cross_entropies_in_bits() -> None:
    logits = torch.randn(5, 3, 7, dtype=torch.float64, requires_grad=True)
    digits = torch.randint(7, (5, 3))
    wanted = torch.nn.functional.cross_entropy(logits.movedim(-1, 1), digits, reduction="none") / np.log(2)
    bits = code_lengths(logits, digits)
    assert torch.allclose(bits, wanted)
    weights = torch.randn_like(bits)
    slopes = [torch.autograd.grad((each * weights).sum(), logits)[0] for each in (bits, wanted)]
    assert torch.allclose(*slopes)


def test_losses_rank_what_the_ear_ranks(speech: np.ndarray) -> None:
    torch.manual_seed(0)
    loss = ReconstructionLoss(24000)
    x = torch.from_numpy(speech[:48000].copy()).reshape(2, 24000)
    noise = torch.nn.functional.avg_pool1d(torch.randn(2, 24004), 5, 1)[:, :24000] * 0.01
    same, near, far, silent = (loss(y, x) for y in (x, x + 0.1 * noise, x + noise, torch.zeros_like(x)))
    for name in ("waveform", "spectrum", "mel"):
        assert same[name].shape == (2,)
        assert (same[name] < near[name]).all()
        assert (near[name] < far[name]).all()
        assert far[name].mean() < silent[name].mean() + 0.1
    assert (same["mel"] == 0).all()


def test_rooms_and_backgrounds_keep_the_voice(tmp_path: Path) -> None:
    def crops(**settings: object) -> Crops:
        config = DataConfig(
            [Source(str(SPEECH))], cache=str(tmp_path), pitch=0, eq=0, gain_db=(0, 0), **settings
        )  # type: ignore[arg-type]
        return Crops(config, 24000, 24000, 4, 0.0, 3)

    plain = [crops()[i]["audio"] for i in range(8)]
    behind = [crops(background=1.0, backgrounds=[Source(str(SPEECH))])[i]["audio"] for i in range(8)]
    room = [crops(room=1.0)[i]["audio"] for i in range(8)]
    assert any(not torch.equal(a, b) for a, b in zip(plain, behind, strict=True))
    rng = np.random.default_rng(0)
    voice = torch.sin(torch.arange(24000) * 0.1)
    for snr in np.linspace(*SNR, 20):
        heard = put_behind(voice, noise(24000, rng), snr)
        ratio = 10 * torch.log10(voice.square().mean() / (heard - voice).square().mean())
        assert abs(ratio - snr) < 0.1
        assert torch.isfinite(place_in_room(voice, 24000, rng)).all()
    assert torch.equal(put_behind(torch.zeros(100), noise(100, rng), 10.0), torch.zeros(100))
    assert all(torch.isfinite(x).all() and x.abs().max() <= 1 for x in (*behind, *room))


def test_decoders_see_what_was_before_a_gap_in_its_place() -> None:
    rng = np.random.default_rng(1)
    gaps = [with_gaps(100, rng) for _ in range(50)]
    for frames in gaps:
        assert frames.shape == (100,)
        assert frames[0] == 0
        assert (frames <= np.arange(100)).all()
        lost = frames != np.arange(100)
        assert not lost[frames].any()  # only what came is seen
    assert 0.05 < np.mean([(frames != np.arange(100)).mean() for frames in gaps]) < 0.25
    run = np.flatnonzero(np.diff(gaps[0]) < 0)
    assert len(run)  # backwards


def test_crops_lose_packets_where_asked(tmp_path: Path, recipe: Path) -> None:
    config = DataConfig([Source(str(SPEECH))], cache=str(tmp_path), lost=0.5)
    crops = Crops(config, 24000, 48000, 4, 0.0, 3, frame=480)
    lost = [bool((crops[i]["frames"] != torch.arange(100)).any()) for i in range(20)]
    assert 2 < sum(lost) < 18
    trainer = _trainer(recipe, "data.lost=0.5")
    trainer.run()
    assert trainer.skipped == 0


def test_decoders_trained_with_gaps_decode_other_frames(recipe: Path) -> None:
    model = _trainer(recipe).task.model
    x, stages = torch.randn(2, 10 * model.config.frame) * 0.1, torch.tensor([model.quantizer.stages] * 2)
    frames = torch.arange(10).expand(2, -1).clone()
    frames[1, 6:8] = torch.tensor([5, 4])
    with torch.no_grad():
        (plain, *tokens), (lossy, *same) = model(x, stages), model(x, stages, True, frames)
    assert torch.equal(tokens[0], same[0])  # what is sent is the same
    assert torch.allclose(plain[0], lossy[0], atol=1e-6)
    assert not torch.allclose(plain[1], lossy[1], atol=1e-4)


@pytest.mark.skipif(not shutil.which("g++"), reason="compiling needs a C++ compiler")
def test_compiled_blocks_learn_like_others() -> None:
    torch.manual_seed(0)
    block, x = Block(16, 7, 3), torch.randn(2, 12, 16)
    block(x).square().sum().backward()
    wanted = [block(x).detach(), *(p.grad.clone() for p in block.parameters())]
    block.zero_grad()
    block.compile(dynamic=False)
    y = block(x)
    y.square().sum().backward()
    found = [y.detach(), *(p.grad for p in block.parameters())]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, wanted, strict=True))


def test_yaml_may_say_no(recipe: Path) -> None:
    assert load_config(recipe, ["mixed_precision=no"]).mixed_precision == "no"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_recorded_steps_learn_like_others(recipe: Path, tmp_path: Path) -> None:
    for name, recorded in (("replayed", "true"), ("launched", "false")):
        _trainer(recipe, f"out={tmp_path / name}", f"cuda_graphs={recorded}", "loss.rate=2").run()
    replayed, launched = (_losses(tmp_path / name) for name in ("replayed", "launched"))
    assert replayed.keys() == launched.keys()
    assert all(replayed[s] == pytest.approx(launched[s], rel=0.02, abs=0.02) for s in replayed)
