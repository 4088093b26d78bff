"""The table of a box, 1, 3 and 5 clicks against the published runs."""

import argparse
import copy

import torch

from benchmarks.models import ENCODERS, add_model_flags, seeded_model, side_command, synthetic_batch
from benchmarks.reference_evaluation import (
    box_opening,
    click_opening,
    published_run,
)
from benchmarks.reference_training import (
    OracleSam,
)
from benchmarks.timing import (
    Worker,
    interleaved,
    serve,
)
from sam_med2d.data.dataset import Batch
from sam_med2d.evaluation.batch_prediction import BOX, parse_mode, predict_batch
from sam_med2d.evaluation.scoring import score_batch
from sam_med2d.prompts.prompt_file import (
    Prompts,
    make_prompts,
    stream,
)
from segment_anything.modeling import Sam

COLUMNS = [parse_mode(name) for name in ("box", "1", "3", "5")]
SEED = 0  # of the clicks
SPLIT_MASKS, SPLIT_ROUNDS = 5, 10
MANY_MASKS = 20  # from here on a single measurement must do: the oracle takes a minute
Table = list[list[tuple[float, float]]]  # for each column (Dice, IoU) of each mask


def evaluation_data(images: int, masks: int, size: int) -> tuple[Batch, Prompts]:
    """A batch, and the opening prompts of its masks."""
    batch = synthetic_batch(images, masks, size)
    return batch, make_prompts(batch, point_num=1, seed=SEED)


def our_table(model: Sam, batch: Batch, prompts: Prompts) -> Table:
    """All columns from one encoding of each image."""
    predictions = predict_batch(model, batch, prompts, COLUMNS, seed=SEED)
    rows = [row for rows in score_batch(batch, predictions, ["dice", "iou"]) for row in rows]
    return [[(row.scores["dice"], row.scores["iou"]) for row in rows if row.prompt == mode.name] for mode in COLUMNS]


def published_table(model: OracleSam, batch: Batch, prompts: Prompts) -> Table:
    """A run for each column, which encodes the image of each mask."""
    table, entries = [], [prompts[ref.name] for ref in batch.refs]
    for mode in COLUMNS:
        if mode.opening == BOX:
            openings = [box_opening(torch.tensor(entry["boxes"][0]).float()) for entry in entries]
        else:
            openings = [click_opening(torch.tensor(entry["point_coords"][0]).float()) for entry in entries]
        streams = [stream(SEED, ref.key, "clicks") for ref in batch.refs]
        cases = zip(batch.image[batch.image_index], batch.mask[:, 0], openings, streams, strict=True)
        table.append(published_run(model, cases, rounds=mode.clicks))
    return table


@torch.no_grad()
def split_time(model: Sam, image_size: int) -> dict[str, float]:
    """Median milliseconds to encode an image, and to decode SPLIT_MASKS masks of it for all columns."""
    batch, prompts = evaluation_data(1, SPLIT_MASKS, image_size)
    embedding, encoded = model.encode(batch.image), copy.copy(model)
    encoded.encode = lambda image: embedding
    calls = {
        "encode": lambda: model.encode(batch.image),
        "decode": lambda: predict_batch(encoded, batch, prompts, COLUMNS, seed=SEED),
    }
    return interleaved(calls, SPLIT_ROUNDS)


def serve_tables(args: argparse.Namespace) -> dict[str, float]:
    """Compute the table of each number of masks that is asked for; at the end, on our side, `split_time`."""
    model = seeded_model(args.only, args).eval()
    make_table = our_table if args.only == "fast" else published_table
    data = {masks: evaluation_data(args.images, masks, args.image_size) for masks in args.masks}
    # warm up with all shapes: the oracle has one, whatever the number of masks
    for warm in data.values() if args.only == "fast" else [evaluation_data(1, 1, args.image_size)]:
        make_table(model, *warm)
    serve(lambda masks: make_table(model, *data[masks]))
    return split_time(model, args.image_size) if args.only == "fast" else {}


def evaluate(args: argparse.Namespace) -> dict[str, float]:
    """Compare the table of four prompts with the published runs, and our decoder with our encoder."""
    if args.only:
        return serve_tables(args)
    workers, found = {kind: Worker(side_command(args, kind)) for kind in ENCODERS}, {}
    for masks in args.masks:
        calls = {kind: lambda w=worker, m=masks: w.ask(m) for kind, worker in workers.items()}
        ms = interleaved(calls, 1 if masks >= MANY_MASKS else args.repeats, warm_up=0)
        ratio = ms["oracle"] / ms["fast"]
        seconds = "  ".join(f"{kind} {value / 1e3:6.2f} s" for kind, value in ms.items())
        print(f"evaluation of {args.images} image(s), {masks:>2} masks each  {seconds}  ratio {ratio:6.2f}", flush=True)
        found[f"ratio_m{masks}"] = round(ratio, 3)
    split = {kind: worker.finish() for kind, worker in workers.items()}["fast"]
    ratio = split["decode"] / split["encode"]
    print(f"fast: encode an image {split['encode']:.0f} ms, decode {SPLIT_MASKS} masks {split['decode']:.0f} ms")
    return found | {"decode_over_encode": round(ratio, 3)}


def add_evaluate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=3, help=f"measurements of each; 1 from {MANY_MASKS} masks on")
    parser.add_argument("--images", type=int, default=1, help="images of the data set")
    parser.add_argument("--masks", type=int, nargs="+", default=[1, 5, 20], help="masks of each image, one row each")
    add_model_flags(parser)
