"""Masks of everything in photographs, without prompts: Segment Anything's command, with its flags and files.

    python scripts/amg.py --input data_demo/images --output workdir/amg --checkpoint workdir/models/demo/best \\
        --model-type vit_t --points-per-side 16 --pred-iou-thresh 0.7 --stability-score-thresh 0.8

Takes seconds for a photograph of 512 pixels with a small model on a CPU. Writes for each photograph a folder
<output>/<name>/ with 0.png, 1.png, ... (0 and 255), the highest predicted IoU first, and metadata.csv with a line for
each; or with --convert-to-rle the file <output>/<name>.json, whose RLEs pycocotools reads.

The thresholds' defaults are those for Segment Anything's largest model; smaller ones predict lower scores. Lower both
thresholds where nothing is found.
"""

import argparse
import csv
import json
import logging
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from sam_med2d.data.image_io import COPY_AGAIN, read_image
from sam_med2d.data.photographs import add_max_pixels, check_max_pixels, photographs_in
from sam_med2d.errors import DataError, UsageError
from sam_med2d.runtime.cli import parse_with_given, run_main, setup_logging
from sam_med2d.runtime.devices import resolve_device
from sam_med2d.runtime.run_folder import make_folder
from sam_med2d.visualization.overlays import write_picture
from segment_anything.automatic_mask_generator import SamAutomaticMaskGenerator
from segment_anything.build_sam import MODEL_SPECS, build_sam
from segment_anything.checkpoint import read_checkpoint
from segment_anything.modeling import Sam
from segment_anything.preprocessing import CHANNEL_ORDERS, MODES
from segment_anything.utils.atomic import write_text

METADATA = "metadata.csv"
COLUMNS = ["id", "area", "bbox_x0", "bbox_y0", "bbox_w", "bbox_h", "point_input_x", "point_input_y", "predicted_iou"]
COLUMNS += ["stability_score", "crop_box_x0", "crop_box_y0", "crop_box_w", "crop_box_h"]
SETTINGS = {
    "points-per-side": (int, "clicks along each side of the photograph (32)"),
    "points-per-batch": (int, "clicks that are decoded together (64)"),
    "pred-iou-thresh": (float, "a mask has a higher predicted IoU than this; 0 keeps all (0.88)"),
    "stability-score-thresh": (float, "a mask has at least this stability score; 0 keeps all (0.95)"),
    "stability-score-offset": (float, "by how much the logits' threshold is moved for the stability score (1.0)"),
    "box-nms-thresh": (float, "IoU of two masks' boxes above which the worse one is dropped (0.7)"),
    "crop-n-layers": (int, "also encode 2 x 2, 4 x 4, ... crops, this many times (0)"),
    "crop-nms-thresh": (float, "as --box-nms-thresh, between crops (0.7)"),
    "crop-overlap-ratio": (float, "overlap of the crops of the first layer, in shares of the shorter side (0.341)"),
    "crop-n-points-downscale-factor": (int, "each layer of crops has this many times fewer clicks a side (1)"),
    "min-mask-region-area": (int, "smaller holes are filled, smaller islands dropped; in pixels (0)"),
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True, help="a photograph, or a folder of them")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--convert-to-rle", action="store_true", help="one JSON file of COCO's run lengths for each photograph, no PNGs"
    )
    add_max_pixels(parser)
    model = parser.add_argument_group("model")
    model.add_argument("--model-type", choices=MODEL_SPECS, default="vit_b", help="unless the checkpoint names its own")
    model.add_argument("--checkpoint", "--sam_checkpoint", required=True, help="a file, or a folder of weights")
    model.add_argument("--image_size", type=int, help="input side; default: the checkpoint's own")
    model.add_argument("--preprocess", choices=MODES, help="override the checkpoint's preprocessing")
    model.add_argument("--channel_order", choices=CHANNEL_ORDERS, help="override the checkpoint's channel order")
    model.add_argument("--device", help="default: the best one present")
    settings = parser.add_argument_group("masks (default)")
    for name, (kind, what) in SETTINGS.items():
        settings.add_argument(f"--{name}", type=kind, help=what)
    return parse_with_given(parser, argv)


def load_model(args: argparse.Namespace) -> Sam:
    """The model on its device. Raises UsageError or CheckpointError."""
    device = resolve_device(args.device)
    source = read_checkpoint(args.checkpoint)
    model_type = args.model_type if "model_type" in args.given else source.metadata.get("model_type", args.model_type)
    try:
        model = build_sam(model_type, checkpoint=source, image_size=args.image_size)
    except ValueError as error:
        raise UsageError(str(error)) from error
    model.preprocessing = model.preprocessing.overridden(mode=args.preprocess, channel_order=args.channel_order)
    return model.to(device)


def make_generator(args: argparse.Namespace) -> SamAutomaticMaskGenerator:
    """The generator as the flags say. Raises UsageError that names a flag whose value cannot work."""
    names = [name.replace("-", "_") for name in SETTINGS]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    try:
        mode = "coco_rle" if args.convert_to_rle else "binary_mask"
        return SamAutomaticMaskGenerator(load_model(args), output_mode=mode, **given)
    except ValueError as error:
        if isinstance(error, UsageError) or type(error) is not ValueError:
            raise
        flag, _, rest = str(error).partition("=")
        raise UsageError(f"--{flag.replace('_', '-')} {rest}") from error


def find_photographs(path: Path) -> list[Path]:
    """The photograph, or those of a folder. Raises UsageError where there is none, or where two have one name."""
    if path.is_file():
        return [path]
    found = photographs_in(path, below=False) if path.is_dir() else []
    if not found:
        raise UsageError(f"--input {path}: no photograph is there.")
    if twice := [name for name, times in Counter(image.stem for image in found).items() if times > 1]:
        raise UsageError(f"--input {path}: two photographs are called {twice[0]}, as their results would be.")
    return found


def write_folder(records: Sequence[dict[str, Any]], folder: Path) -> None:
    """The masks as PNG files with their table, all at once; in place of the folder of an earlier run.

    Raises UsageError where the folder holds something else.
    """
    if folder.exists() and not (folder / METADATA).is_file():
        raise UsageError(f"--output: {folder} is there and holds no {METADATA}: choose another folder.")
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        for i, record in enumerate(records):
            write_picture(temporary / f"{i}.png", record["segmentation"].astype("uint8") * 255)
        with (temporary / METADATA).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for i, one in enumerate(records):
                scores = (one["predicted_iou"], one["stability_score"])
                writer.writerow([i, one["area"], *one["bbox"], *one["point_coords"][0], *scores, *one["crop_box"]])
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def generate(args: argparse.Namespace) -> int:
    """Exit code 0, or 1 where photographs could not be read."""
    setup_logging(level=logging.WARNING)
    check_max_pixels(args.max_pixels)
    images = find_photographs(args.input)
    out = make_folder(args.output, "--output")
    generator = make_generator(args)
    found, unreadable = 0, 0
    for path in tqdm(images, desc="photographs", unit="image"):
        try:
            image = read_image(path, max_pixels=args.max_pixels, advice=COPY_AGAIN)
            records = generator.generate(image)
        except DataError as error:
            print(f"left out: {error}", file=sys.stderr)
            unreadable += 1
            continue
        if args.convert_to_rle:
            write_text(out / f"{path.stem}.json", json.dumps(records))
        else:
            write_folder(records, out / path.stem)
        found += len(records)
    print(f"{found} masks in {len(images) - unreadable} photographs: {out}/")
    if not found:
        print("note: lower --pred-iou-thresh and --stability-score-thresh to see more")
    return 1 if unreadable else 0


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(generate, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
