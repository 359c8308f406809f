"""This project's packages, as they are sent to the hosts of a cluster."""

import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The name of the run that comes with this project, wherever a run directory is expected.
PRETRAINED = "pretrained"
PACKAGES = ("evaluation", "experiments", "models", "preprocessing", "tracking", "training")


def run_location(path: str) -> str:
    """Where a run directory is: ``pretrained`` names the one that comes with this project, on this machine."""
    return f"file://{ROOT / PRETRAINED}" if path == PRETRAINED else path


def zip_packages(folder: Path) -> Path:
    """Pack this project's packages for executors into a ZIP file, in a new subfolder of ``folder``."""
    # several jobs that one job or notebook has started share its temporary folder
    path = Path(tempfile.mkdtemp(dir=folder)) / "handshape.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for file in sorted((ROOT / package).rglob("*")):
                if file.is_file() and file.suffix != ".pyc":
                    archive.write(file, file.relative_to(ROOT))
    return path
