"""Folders of the repository that tests read, and what is in a folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA_DEMO = ROOT / "data_demo"
GOLDEN = ROOT / "tests" / "golden"


def entries(folder: Path) -> set[str]:
    """Names in a folder, hidden ones too."""
    return {path.name for path in folder.iterdir()}
