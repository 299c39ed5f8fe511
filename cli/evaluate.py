"""`fsqcodec eval`: bitrate against quality, our models and what people use today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .common import (
    DEFAULT_MODEL,
    DEFAULT_PICTURE_MODEL,
    Jobs,
    Overwrite,
    Quiet,
    console,
    file_progress,
    open_target,
)


class _RunByDefault(typer.core.TyperGroup):
    """`eval CLIPS …` is `eval run CLIPS …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    help="Measure bitrate against quality, and compare results. `eval CLIPS …` means `eval run CLIPS …`.",
    no_args_is_help=True,
)


@app.command("run")
def evaluate(
    clips: Annotated[list[str], typer.Argument(help="Files, folders or globs of sound, pictures and video.")],
    models: Annotated[
        str,
        typer.Option(
            help="Models, joined by commas: names or .safetensors files; of sound, NAME:EFFORT too "
            "(see encode --effort)."
        ),
    ] = (f"{DEFAULT_MODEL},{DEFAULT_PICTURE_MODEL}"),
    peers: Annotated[
        str, typer.Option(help="Peers such as opus,mp3,jpeg,x264; all that this machine has, or none.")
    ] = "all",
    out: Annotated[
        Path, typer.Option(help="Folder for results.json, .csv and .md, report.html and plots/.")
    ] = Path("report"),
    held_out: Annotated[
        bool,
        typer.Option("--held-out", help="Of pictures and videos only the fifth that training leaves out."),
    ] = False,
    most: Annotated[int, typer.Option(min=1, help="Clips of each kind at most.")] = 1000,
    report: Annotated[bool, typer.Option(help="Write report.html and plots/ too.")] = True,
    jobs: Jobs = 1,
    quiet: Quiet = False,
) -> None:
    """Measure clips by our models and by peers; what was measured before is remembered in OUT/cache.

    [bold]Examples[/bold]

    fsqcodec eval clips/ --out report/

    fsqcodec eval clips/ --models speech-24k,my-voice.safetensors --peers opus,mp3 --jobs 2

    fsqcodec eval compare old/results.json new/results.json
    """
    from fsqcodec.errors import ConfigError
    from fsqcodec.train.data.manifest import list_media
    from fsqcodec.train.evaluation.aggregate import to_csv, to_markdown
    from fsqcodec.train.evaluation.clips import KINDS
    from fsqcodec.train.evaluation.codecs import peers_of
    from fsqcodec.train.evaluation.peers import PEERS
    from fsqcodec.train.evaluation.runner import clips_by_kind, models_by_kind, plan, run

    media = clips_by_kind((file for given in clips for file in list_media(given)), most, held_out)
    ours = models_by_kind(filter(None, models.split(",")))
    known = [name for kind in KINDS for name in PEERS[kind]]
    asked = [] if peers in ("", "none") else known if peers == "all" else peers.split(",")
    if unknown := set(asked) - set(known):
        raise ConfigError(f"--peers: no peer {sorted(unknown)[0]!r}; there are {', '.join(known)}")
    theirs = {kind: [peer for peer in peers_of(kind) if peer in asked] for kind in KINDS}
    missing = set(asked) - {peer for kind in KINDS for peer in theirs[kind]}
    if missing and not quiet:
        console.print(f"not on this machine, left out: {', '.join(sorted(missing))}", markup=False)
    todo = plan(media, ours, theirs)
    with file_progress(len(todo), quiet) as (advance, _):
        results = run(todo, out / "cache", jobs, advance) | {"models": models.split(",")}
    _write(out / "results.json", json.dumps(results, indent=1))
    _write(out / "results.csv", to_csv(results))
    _write(out / "results.md", to_markdown(results))
    if report:
        from fsqcodec.train.evaluation.plots import save_results
        from fsqcodec.train.evaluation.report import build

        save_results(results, out / "plots")
        _write(out / "report.html", build(results, [clip for kind in KINDS for clip in media[kind]]))
    for failure in results["failures"]:
        codec = f"{failure['codec']}@{failure['setting']:g}"
        console.print(f"failed: {failure['clip']} {codec}: {failure['error']}", markup=False)
    if not quiet:
        _show(results)
        console.print(f"wrote {out}/", markup=False)
    if results["failures"] and not results["rows"]:
        raise typer.Exit(1)


@app.command()
def mix(
    clips: Annotated[list[str], typer.Argument(help="Files, folders or globs of speech.")],
    out: Annotated[Path, typer.Option(help="Folder for the mixtures, .flac.")],
    behind: Annotated[
        str,
        typer.Option(
            help="Music, voices or noise to put behind them: file, folder or glob; noise when left out."
        ),
    ] = "",
    snr: Annotated[float, typer.Option(help="Decibels of the speech above what is behind it.")] = 10.0,
    overwrite: Overwrite = False,
) -> None:
    """Write clips with noise, music or other voices behind them, to be measured by `fsqcodec eval`.

    [bold]Example[/bold]

    fsqcodec eval mix clips/ --behind music/ --snr 10 --out mixed/ && fsqcodec eval mixed/
    """
    from fsqcodec.media.audio import AudioFacts, AudioWriter
    from fsqcodec.train.data.manifest import list_media
    from fsqcodec.train.evaluation.noise_mix import mix as mixed

    files = [file for given in clips for file in list_media(given)]
    others = list_media(behind) if behind else []
    out.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(files):
        samples, rate = mixed(clip, others, snr, number)
        with open_target(str(out / f"{clip.stem}.flac"), overwrite) as file:
            writer = AudioWriter(file, ".flac", AudioFacts(rate, 1))
            writer.write(samples)
            writer.close()
    console.print(f"wrote {len(files)} clips to {out}/", markup=False)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="results.json of the old model.")],
    after: Annotated[
        Path, typer.Argument(help="results.json of the new model, with the same clips and names.")
    ],
    tolerance: Annotated[
        float, typer.Option(min=0, help="Mean loss that is forgiven, in units of each measure.")
    ] = 0.0,
) -> None:
    """Compare results clip by clip; exit code 1 when a measure is worse by more than chance and tolerance."""
    from fsqcodec.errors import FSQCodecError
    from fsqcodec.train.evaluation.aggregate import compare as paired
    from fsqcodec.train.evaluation.runner import load_results

    rows = paired(load_results(before), load_results(after))
    if not rows:
        raise FSQCodecError(f"{after}: has no clip, codec and setting in common with {before}")
    table = Table(title="after - before, mean and 95 % interval")
    for column in ("codec", "measure", "clips", "difference", "interval", ""):
        table.add_column(column)
    worse = False
    for row in rows:
        bad = row["worse"] and abs(row["difference"]) > tolerance
        worse |= bad
        table.add_row(
            f"{row['codec']}@{row['setting']:g}",
            row["measure"],
            str(row["clips"]),
            f"{row['difference']:+.4f}",
            f"{row['low']:+.4f} … {row['high']:+.4f}",
            "[red]worse[/red]" if bad else "",
        )
    Console(highlight=False).print(table)
    if worse:
        raise typer.Exit(1)


@app.command()
def quantizers(
    source: Annotated[str, typer.Argument(help="Folder or glob of speech to train on.")],
    validation: Annotated[str, typer.Argument(help="Folder or glob of other speech to measure by.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of every one of the 16 trainings.")] = 400,
    out: Annotated[Path, typer.Option(help="Folder for quantizers.json, .md, .svg and .png.")] = Path(
        "quantizers"
    ),
    quiet: Quiet = False,
) -> None:
    """Measure FSQ's claims: a small codec with FSQ, residual FSQ, VQ and residual VQ at 8 to 14 bits a frame.

    [bold]Example[/bold]

    fsqcodec eval quantizers '../shared/data/speech/train/fillets*' '../shared/data/speech/dev/*.flac'
    """
    from fsqcodec.train.evaluation.plots import Line, save
    from fsqcodec.train.evaluation.quantizer_study import BITS, NAMES, study, to_markdown

    rows: list[dict[str, Any]] = []
    with file_progress(len(BITS) * len(NAMES), quiet) as (advance, _):
        for row in study(source, validation, steps, lambda line: console.print(line, markup=False)):
            rows.append(row)
            _write(out / "quantizers.json", json.dumps({"steps": steps, "rows": rows}, indent=1))
            advance()
    _write(out / "quantizers.md", to_markdown(rows))
    lines = []
    for name in NAMES:
        points = [row for row in rows if row["quantizer"] == name]
        lines.append(Line(name, [row["bits"] for row in points], [row["loss"] for row in points]))
    save(out / "quantizers", lines, "bits a latent frame", "loss, lower is better", log=False)
    if not quiet:
        console.print(f"wrote {out}/", markup=False)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _show(results: dict[str, Any]) -> None:
    from fsqcodec.train.evaluation.aggregate import COSTS, RATE_UNITS, costs, differences, means

    rows = means(results)
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        names = list(
            dict.fromkeys(name for row in mine for name in row["measures"] if name != "shift samples")
        )
        table = Table(title=f"{kind}, mean of {max(row['clips'] for row in mine)} clips, {results['date']}")
        for column in ("codec", RATE_UNITS[kind], *names, *COSTS):
            table.add_column(column, justify="right" if column != "codec" else "left")
        for row in mine:
            values = [f"{row['measures'][n]['mean']:.3f}" if n in row["measures"] else "" for n in names]
            table.add_row(f"{row['codec']}@{row['setting']:g}", f"{row['rate']:.3f}", *values, *costs(row))
        Console(highlight=False).print(table)
    rates = [row for row in differences(results) if row["rate"] is not None]
    if rates:
        table = Table(title="rate at equal quality (Bjøntegaard)")
        for column in ("codec", "against", "measure", "rate"):
            table.add_column(column)
        for row in rates:
            table.add_row(row["codec"], row["against"], row["measure"], f"{row['rate']:+.1f} %")
        Console(highlight=False).print(table)
