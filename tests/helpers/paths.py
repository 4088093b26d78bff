"""Folders of the repository that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA_DEMO = ROOT / "data_demo"
GOLDEN = ROOT / "tests" / "golden"
