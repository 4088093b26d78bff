"""Say whether a data set in our JSON layout is sound: its maps, files, masks and splits.

    python scripts/check_dataset.py data_demo
    python scripts/check_dataset.py my_data other_data --image_size 512 --out workdir/check/both

Takes about 30 ms for a photograph of 512 pixels and a core. Looks at all maps of the folders together
(image2label_*.json and label2image_*.json of every split) and finds
- files that are missing, unreadable, cut off, of the wrong size or not binary, empty masks, wrong entries of maps;
- a photograph in two splits, also when it was resized, recompressed or brightened, and a patient in two splits
  (index.csv with the columns image, dataset and patient or patient_or_image_id);
- masks that are inverted, flipped, shifted, outside the field of view, or where the photograph shows nothing of the
  kind (where this is uncertain, a warning; a fault where more than 2 % of the masks are concerned); optic cups outside
  their disc;
- structures that are lost or hardly seen at --image_size, and masks of less than a pixel there;
- how many masks of each structure a split has, and structures that are tested and not trained.

Prints a table, and writes to --out: check.json (everything), overlays.png (photographs with their masks, faulty ones
first) and sizes.png (how large the masks are in the model frame). The folders themselves are never written to.

Exit code: 0 sound (there may be warnings), 1 something is wrong, 2 the flags cannot work.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.dataset_checks.check import check
from sam_med2d.dataset_checks.check_figures import draw_overlays, draw_sizes
from sam_med2d.dataset_checks.check_report import as_dict, as_text
from sam_med2d.dataset_checks.map_checks import find_maps
from sam_med2d.errors import UsageError
from sam_med2d.runtime import json_files
from sam_med2d.runtime.cli import run_main
from sam_med2d.runtime.devices import cpu_workers
from sam_med2d.runtime.reproducibility import record
from sam_med2d.runtime.run_folder import make_folder

SMALLEST = 16


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="DIR", help="data set with JSON maps, as --data_path")
    parser.add_argument("--image_size", type=int, default=256, help="side of the model frame in pixels (default: 256)")
    parser.add_argument("--out", type=Path, help="folder for the results (default: workdir/check/<name of DIR>)")
    parser.add_argument("--num_workers", type=int, help="processes that read (default: one a core)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the sound photographs that are drawn (default: 0)")
    return parser.parse_args(argv)


def check_usage(args: argparse.Namespace) -> tuple[list[Path], Path]:
    """The data sets, and the folder for the results, made. Raises UsageError for flags that cannot work."""
    folders = [Path(folder) for folder in args.folders]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder: give the folder that holds the maps.")
        if not find_maps(folder):
            raise UsageError(f"{folder} has no image2label_*.json and no label2image_*.json: see data_demo/README.md.")
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise UsageError(f"{', '.join(args.folders)}: a folder is given twice; give each once.")
    if args.image_size < SMALLEST:
        raise UsageError(f"--image_size {args.image_size}: give {SMALLEST} or more.")
    out = args.out or Path("workdir/check") / "_".join(place.name for place in places)
    if inside := next((place for place in places if out.resolve().is_relative_to(place)), None):
        raise UsageError(f"--out {out} lies in {inside}, which is only read: choose another folder.")
    return folders, make_folder(out, "--out")


def check_dataset(args: argparse.Namespace) -> int:
    # the process that starts the others only waits
    workers = max(1, cpu_workers(None) + 1 if args.num_workers is None else cpu_workers(args.num_workers))
    folders, out = check_usage(args)
    result = check(folders, image_size=args.image_size, workers=workers)
    print(as_text(result, args.image_size))
    json_files.write_summary(out / "check.json", as_dict(result) | record(args))
    files = ["check.json"]
    if draw_overlays(out / "overlays.png", result.photographs, result.findings, seed=args.seed):
        files.append("overlays.png")
    if draw_sizes(out / "sizes.png", result.balance, args.image_size):
        files.append("sizes.png")
    print(f"results: {out}/{', '.join(files)}")
    return 0 if result.sound else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 for a sound data set, 1 for a faulty one, 2 after one message about bad flags."""
    return run_main(check_dataset, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
