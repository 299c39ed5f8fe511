"""What the site's build needs: the package's sources in one folder `fsqcodec`, as they are imported."""

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"codec": ".", "train": "train", "cli": "cli", "checkpoints": "checkpoints"}


def on_startup(**_: object) -> None:
    """Copy the sources to `build/griffe`, where docstrings are read without importing anything, before plugins look for them.

    Google's style calls a section of doctests `Examples`; ours of one is an `Example`.
    """
    package = ROOT / "build" / "griffe" / "fsqcodec"
    shutil.rmtree(package, ignore_errors=True)
    for folder, target in FOLDERS.items():
        for source in (ROOT / folder).rglob("*.py"):
            copy = package / target / source.relative_to(ROOT / folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            text = re.sub(
                r"^( +)Example:$", r"\1Examples:", source.read_text(encoding="utf-8"), flags=re.MULTILINE
            )
            copy.write_text(text, encoding="utf-8")
