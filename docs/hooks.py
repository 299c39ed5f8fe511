"""What the site's build needs: the package's sources in one folder `fsqcodec`, as they are imported."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"codec": ".", "train": "train", "cli": "cli", "checkpoints": "checkpoints"}


def on_startup(**_: object) -> None:
    """Copy the sources to `build/griffe`, where their docstrings are read without importing anything. It must be there when plugins start."""
    package = ROOT / "build" / "griffe" / "fsqcodec"
    shutil.rmtree(package, ignore_errors=True)
    for folder, target in FOLDERS.items():
        for source in (ROOT / folder).rglob("*.py"):
            copy = package / target / source.relative_to(ROOT / folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
