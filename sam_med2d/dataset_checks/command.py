"""What scripts/check_dataset.py does: from flags to a table, check.json and pictures."""

import argparse
from pathlib import Path

from sam_med2d.dataset_checks.check import check
from sam_med2d.dataset_checks.check_figures import draw_overlays, draw_sizes
from sam_med2d.dataset_checks.check_report import as_dict, as_text
from sam_med2d.dataset_checks.map_checks import find_maps
from sam_med2d.errors import UsageError
from sam_med2d.runtime.devices import cpu_workers
from sam_med2d.runtime.json_files import write_json
from sam_med2d.runtime.reproducibility import record
from sam_med2d.runtime.run_folder import make_folder

SMALLEST = 16  # pixels, of --image_size


def check_dataset(args: argparse.Namespace) -> int:
    """Check data sets, print a table, and write findings and pictures, as scripts/check_dataset.py's flags say.

    Returns:
        The exit code: 0 for sound data, 1 for faulty ones.

    Raises:
        UsageError: for flags that cannot work.
    """
    # the process that starts the others only waits
    workers = max(1, cpu_workers(None) + 1 if args.num_workers is None else cpu_workers(args.num_workers))
    folders, out = _folders_of(args)
    result = check(folders, image_size=args.image_size, workers=workers)
    print(as_text(result, args.image_size))
    write_json(out / "check.json", as_dict(result) | record(args))
    files = ["check.json"]
    if draw_overlays(out / "overlays.png", result.photographs, result.findings, seed=args.seed):
        files.append("overlays.png")
    if draw_sizes(out / "sizes.png", result.balance, args.image_size):
        files.append("sizes.png")
    print(f"results: {out}/{', '.join(files)}")
    return 0 if result.sound else 1


def _folders_of(args: argparse.Namespace) -> tuple[list[Path], Path]:
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
