"""What the site's build needs: a folder `fsqcodec` as it is imported, and links to files outside `docs/`."""

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"train": "train", "cli": "cli", "checkpoints": "checkpoints"}


def on_config(config: Any) -> Any:
    """Lay the package out under `build/griffe`, where its docstrings are read without importing anything."""
    package = ROOT / "build" / "griffe" / "fsqcodec"
    package.mkdir(parents=True, exist_ok=True)
    wanted = {item.name: item for item in (ROOT / "codec").iterdir() if item.suffix == ".py" or item.is_dir()}
    wanted |= {name: ROOT / folder for name, folder in FOLDERS.items()}
    for old in package.iterdir():
        old.unlink()
    for name, item in wanted.items():
        (package / name).symlink_to(item, target_is_directory=item.is_dir())
    return config
