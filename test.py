"""Test a checkpoint: Dice and IoU for a box and for 1, 3 and 5 clicks, from one encoding of each image.

    python test.py --data_path data_demo --sam_checkpoint workdir/models/demo/best

On two CPU cores about 20 images a second with vit_t at 256 px. Writes cases.csv, summary.json, report.md and
overlay.png to <work_dir>/<run_name>/, and the prompts that were used to <work_dir>/<S>_prompt.json.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import metrics as metric_functions
import report
from DataLoader import Batch, FundusDataset, collate, make_loader
from evaluation import (
    Mode,
    Prediction,
    Prompts,
    draw_predictions,
    make_prompts,
    misplaced,
    parse_mode,
    predict_batch,
    read_prompts,
    score_batch,
    write_prompts,
)
from maps import MaskRef, Record, load_index
from segment_anything.build_sam import MODEL_SPECS, build_sam
from segment_anything.checkpoint import read_checkpoint
from segment_anything.modeling import Sam
from segment_anything.utils.atomic import write_text
from segment_anything.utils.transforms import CHANNEL_ORDERS, MODES, Preprocessing
from utils import (
    UsageError,
    add_bool,
    cpu_workers,
    make_folder,
    parse_with_given,
    record,
    resolve_device,
    run_main,
    seed_everything,
    setup_logging,
)

logger = logging.getLogger("test")
DEFAULT_PROMPTS = ["box", "1", "3", "5"]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--data_path", default="data_demo", help="folder with label2image_test.json")
    data.add_argument("--work_dir", default="workdir", help="where results go")
    data.add_argument("--run_name", default="sammed", help="folder of this run inside work_dir; also its table name")
    data.add_argument("--num_workers", type=int, help="loader processes; default: cores - 1")
    model = parser.add_argument_group("model")
    model.add_argument("--sam_checkpoint", help="weights to test: a file, or a folder with model.safetensors")
    model.add_argument("--model_type", choices=MODEL_SPECS, default="vit_b", help="unless the checkpoint names its own")
    model.add_argument("--image_size", type=int, default=256, help="input side, unless the checkpoint names its own")
    add_bool(model, "--encoder_adapter", default=True, help="False drops them; not given: as in the checkpoint")
    add_bool(model, "--multimask", default=True, help="choose among three candidates by predicted IoU")
    model.add_argument("--preprocess", choices=MODES, help="override the checkpoint's preprocessing")
    model.add_argument("--channel_order", choices=CHANNEL_ORDERS, help="override the checkpoint's channel order")
    prompts = parser.add_argument_group("prompts (default: box, 1, 3 and 5 points in one run)")
    prompts.add_argument("--prompts", nargs="+", metavar="P", help="columns of the table: box or numbers of points")
    add_bool(prompts, "--boxes_prompt", default=True, help="one column, as SAM-Med2D: the box, or the points")
    prompts.add_argument("--point_num", type=int, default=1, help="points of the first round")
    prompts.add_argument("--iter_point", type=int, default=1, help="rounds of points")
    prompts.add_argument("--prompt_path", type=Path, help="replay the boxes and first points of this file")
    run = parser.add_argument_group("run")
    run.add_argument("--metrics", nargs="+", default=["iou", "dice"], help=", ".join(metric_functions.SCORES))
    run.add_argument("--batch_size", type=int, default=1, help="images per batch")
    run.add_argument("--device", help="default: the best one present")
    run.add_argument("--seed", type=int, default=0, help="of the clicks")
    add_bool(run, "--use_amp", default=False, help="bfloat16 autocast")
    add_bool(run, "--save_pred", default=False, help="write 0/255 masks at original size")
    return parse_with_given(parser, argv)


def check_args(args: argparse.Namespace) -> None:
    """Refuse values that cannot work, before anything is read. Raises UsageError."""
    unknown = [name for name in args.metrics if name not in metric_functions.SCORES]
    if unknown:
        raise UsageError(f"--metrics {' '.join(unknown)}: choose from {', '.join(metric_functions.SCORES)}.")
    for name in ("batch_size", "point_num", "iter_point"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} {getattr(args, name)}: give 1 or more.")


def select_modes(args: argparse.Namespace) -> list[Mode]:
    """Columns to compute: --prompts, or the single mode of SAM-Med2D's flags, or all four."""
    single = {"boxes_prompt", "point_num", "iter_point"} & args.given
    if args.prompts and single:
        raise UsageError(f"--prompts cannot be combined with --{', --'.join(sorted(single))}.")
    if not single:
        try:
            return [parse_mode(name) for name in dict.fromkeys(args.prompts or DEFAULT_PROMPTS)]
        except ValueError as error:
            raise UsageError(f"--prompts: {error}") from error
    if args.boxes_prompt:
        if "boxes_prompt" not in single:
            logger.info("testing the box (SAM-Med2D's default); add --boxes_prompt False to test points")
        return [Mode("box", box=True)]
    return [Mode(str(args.point_num + args.iter_point - 1), box=False, clicks=args.iter_point)]


def load_model(args: argparse.Namespace, device: torch.device) -> Sam:
    """The checkpoint's model in evaluation mode, with the preprocessing to use."""
    if not args.sam_checkpoint:
        raise UsageError("--sam_checkpoint is needed: random weights have nothing to test (python train.py makes one).")
    source = read_checkpoint(args.sam_checkpoint)
    metadata, stored = source.metadata, source.metadata.get("preprocessing", {})
    image_size = args.image_size if "image_size" in args.given else stored.get("image_size", args.image_size)
    model_type = args.model_type if "model_type" in args.given else metadata.get("model_type", args.model_type)
    adapter = args.encoder_adapter if "encoder_adapter" in args.given else None
    if "multimask" not in args.given:
        args.multimask = metadata.get("multimask", args.multimask)
    if stored.get("image_size", image_size) != image_size:
        logger.info(f"the checkpoint was trained at {stored['image_size']} px and is tested at {image_size} px")
    try:
        model = build_sam(model_type, checkpoint=source, image_size=image_size, encoder_adapter=adapter)
    except ValueError as error:
        raise UsageError(str(error)) from error
    chosen = {"mode": args.preprocess, "channel_order": args.channel_order}
    model.preprocessing = replace(model.preprocessing, **{k: v for k, v in chosen.items() if v})
    return model.to(device)


def get_prompts(args: argparse.Namespace, dataset: FundusDataset, image_size: int) -> Prompts:
    """Prompts read from --prompt_path, or made from the masks and written before anything is predicted."""
    if args.prompt_path:
        refs = [mask for record in dataset.records for mask in record.masks]
        return read_prompts(args.prompt_path, refs, image_size)
    loader = make_loader(dataset, batch_size=8, num_workers=cpu_workers(args.num_workers))
    bar = tqdm(loader, desc="prompts", unit="batch", leave=False)
    prompts = make_prompts(bar, point_num=args.point_num, seed=args.seed)
    path = Path(args.work_dir) / f"{image_size}_prompt.json"
    write_prompts(path, prompts)
    logger.info(f"prompts written to {path}")
    return prompts


def predict_and_score(
    model: Sam, dataset: FundusDataset, prompts: Prompts, modes: list[Mode], args: argparse.Namespace, out: Path
) -> tuple[list[report.Row], float]:
    """Rows of all masks and modes, and images per second of encoding and decoding."""
    loader = make_loader(dataset, batch_size=args.batch_size, num_workers=cpu_workers(args.num_workers))
    rows: list[report.Row] = []
    seconds, outside = 0.0, 0
    folders = {mode.name: make_folder(out / mode.folder, "--work_dir") for mode in modes} if args.save_pred else {}
    for batch in tqdm(loader, desc="test", unit="batch"):
        batch = batch.to(model.device)
        start = time.perf_counter()
        predictions = predict(model, batch, prompts, modes, args)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        seconds += time.perf_counter() - start
        outside += misplaced(batch, prompts) if args.prompt_path else 0  # our own lie inside
        for row, mask in score_batch(batch, predictions, args.metrics):
            rows.append(row)
            if args.save_pred:
                name = row["mask"].replace("/", "__").removeprefix("..__")
                file = folders[row["prompt"]] / Path(name).with_suffix(".png")
                report.write_picture(file, mask.astype(np.uint8) * 255)
    if outside:
        logger.warning(f"{outside} foreground clicks lie outside their masks: is --prompt_path of other preprocessing?")
    return rows, len(dataset) / seconds


def predict(
    model: Sam, batch: Batch, prompts: Prompts, modes: list[Mode], args: argparse.Namespace
) -> list[list[Prediction]]:
    """`predict_batch` with this run's flags."""
    with torch.autocast(model.device.type, torch.bfloat16, enabled=args.use_amp):
        return predict_batch(model, batch, prompts, modes, seed=args.seed, multimask=args.multimask)


def pick_cases(rows: Sequence[report.Row]) -> list[str]:
    """Keys of the best, the median and the worst mask of each structure, by mean Dice (or the first metric)."""
    metric = "dice" if "dice" in rows[0] else next(name for name in rows[0] if name in metric_functions.SCORES)
    by_structure: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        by_structure.setdefault(row["structure"], {}).setdefault(row["mask"], []).append(row[metric])
    keys: dict[str, None] = {}
    for cases in by_structure.values():
        order = sorted(cases, key=lambda key: report.mean(cases[key]), reverse=True)
        keys |= dict.fromkeys(order[i] for i in (0, len(order) // 2, len(order) - 1))
    return list(keys)


def draw_cases(
    model: Sam, dataset: FundusDataset, keys: list[str], prompts: Prompts, modes: list[Mode], args: argparse.Namespace
) -> np.ndarray:
    """A contact sheet: a row per mask, a column per mode. The few masks are predicted once more."""
    where = {mask.key: (record, mask) for record in dataset.records for mask in record.masks}
    tiles = []
    for key in keys:
        batch = _one_mask(dataset, *where[key]).to(model.device)
        tiles += draw_predictions(batch, 0, predict(model, batch, prompts, modes, args)[0])
    return report.contact_sheet(tiles, columns=len(modes))


def _one_mask(dataset: FundusDataset, record: Record, mask: MaskRef) -> Batch:
    """A batch of one photograph with one of its masks."""
    single = FundusDataset([Record(record.image, (mask,))], dataset.preprocessing, keep_truth=True)
    return collate([single[0]])


def write_report(
    out: Path, args: argparse.Namespace, rows: list[report.Row], fps: float, preprocessing: Preprocessing, device: str
) -> dict:
    """Write cases.csv, summary.json and report.md; returns the summary."""
    summary = report.summarise(rows, args.metrics)
    precision = "bfloat16 autocast" if args.use_amp else "float32"
    summary |= {
        "fps": fps,
        "fps_covers": f"encoding and decoding of all prompts, batch {args.batch_size}, {device}, {precision}",
        "preprocessing": preprocessing.as_dict(),
    } | record(args)
    report.write_cases(out / "cases.csv", rows)
    report.write_summary(out / "summary.json", summary)
    parts = [f"# {args.run_name}", f"Data: {args.data_path}. Weights: {args.sam_checkpoint}. Mean over masks, in %."]
    main_metric = "dice" if "dice" in args.metrics else args.metrics[0]
    parts += [f"## {main_metric}", report.system_table(args.run_name, preprocessing.image_size, summary, main_metric)]
    parts += [f"FPS: {summary['fps_covers']}.", "## By structure", report.structure_table(summary, args.metrics)]
    vanished = next(iter(summary["overall"].values()))["vanished"]
    if vanished:
        parts.append(f"{vanished} mask(s) vanished at {preprocessing.image_size} px: scored 0, no prompt was given.")
    write_text(out / "report.md", "\n\n".join(parts) + "\n")
    return summary


def main(args: argparse.Namespace) -> int:
    setup_logging()
    check_args(args)
    modes = select_modes(args)
    device = resolve_device(args.device)
    seed_everything(args.seed)
    out = make_folder(Path(args.work_dir) / args.run_name, "--work_dir")
    model = load_model(args, device)
    dataset = FundusDataset(load_index(args.data_path, "test"), model.preprocessing, keep_truth=True)
    prompts = get_prompts(args, dataset, model.image_size)
    rows, fps = predict_and_score(model, dataset, prompts, modes, args, out)
    write_report(out, args, rows, fps, model.preprocessing, str(device))
    report.write_picture(out / "overlay.png", draw_cases(model, dataset, pick_cases(rows), prompts, modes, args))
    logger.info((out / "report.md").read_text())
    logger.info(f"results: {out}/report.md, cases.csv, summary.json; pictures: {out}/overlay.png")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, parse_args()))
