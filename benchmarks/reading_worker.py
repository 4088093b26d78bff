"""One side's reader of photographs, in a process of its own, for `sides.Worker`.

    PYTHONPATH=CHECKOUT python -P benchmarks/reading_worker.py FOLDER FOLDER ...

Of this project it imports nothing but the reader of CHECKOUT, under its present or its former name; with --reference
OpenCV reads, without a look at what the file says of itself. Each line of the standard input is ten times the number of
a folder, plus that of a tenth of its photographs, which are then read; it is answered by a line. The last line of the
output is a JSON object: {"sums"}, of the pixels of each tenth.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

PARTS = 10  # of a folder, that are read in turn with the other side: the shorter, the more alike is the machine's state


def reader(*, reference: bool) -> Callable[[Path], np.ndarray]:
    """What reads a photograph as RGB uint8 [H, W, 3]."""
    if reference:
        return lambda path: cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    try:
        from sam_med2d.data.image_io import read_image
    except ModuleNotFoundError:
        from maps import read_image  # of an older checkout
    return read_image


def _jpeg(path: Path) -> Path:
    """The JPEG beside the folder of a DICOM file; another file itself."""
    return path.parents[1] / "small_jpg" / f"{path.stem}.jpg" if path.suffix == ".dcm" else path


def main(argv: list[str] | None = None) -> int:
    """Serve, and tell what was read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--reference", action="store_true", help="measure OpenCV alone")
    parser.add_argument("--jpeg", action="store_true", help="in place of a DICOM file read the JPEG that is in it")
    args = parser.parse_args(argv)
    cv2.setNumThreads(0)  # as in the commands, where photographs are the parallel part
    read, sums = reader(reference=args.reference), [0] * PARTS * len(args.folders)
    print("ready", flush=True)
    for line in sys.stdin:
        folder, part = divmod(int(line), PARTS)
        paths = sorted(args.folders[folder].iterdir())[part::PARTS]
        paths = [_jpeg(path) if args.jpeg else path for path in paths]
        sums[int(line)] = sum(int(read(path)[::7, ::7].sum()) for path in paths)
        print("done", flush=True)
    print(json.dumps({"sums": sums}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
