"""The flags that say what is exported."""

import argparse
from pathlib import Path

from sam_med2d.data.records import SPLITS


def add_source(parser: argparse.ArgumentParser, *, out: str) -> None:
    """Add SOURCE, OUT, --split and --structures; `out` says what OUT is."""
    text = "data set (a folder with JSON maps), one map, or a folder that predict.py wrote"
    parser.add_argument("source", type=Path, metavar="SOURCE", help=text)
    parser.add_argument("out", type=Path, metavar="OUT", help=out)
    parser.add_argument("--split", choices=SPLITS, help="default: all that SOURCE has")
    parser.add_argument("--structures", nargs="+", metavar="NAME", help="default: all that SOURCE has")
