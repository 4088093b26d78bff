"""The table of a box, 1, 3 and 5 clicks against the published runs."""

import argparse

import torch
from torch import Tensor

from benchmarks.models import add_model_flags, seeded_model, synthetic_batch
from benchmarks.reference_evaluation import box_opening, click_opening, published_run
from benchmarks.reference_training import OracleSam
from benchmarks.sides import OURS, Worker, baseline, same_command, serve
from sam_med2d.data.dataset import Batch
from sam_med2d.evaluation.batch_prediction import BOX, parse_mode, predict_batch
from sam_med2d.evaluation.scoring import score_batch
from sam_med2d.prompts.prompt_file import PromptEntries, make_prompts, random_stream
from sam_med2d.runtime.timing import interleaved
from segment_anything.modeling import Sam
from segment_anything.modeling.sam import SharedSam

COLUMNS = [parse_mode(name) for name in ("box", "1", "3", "5")]
SEED = 0  # of the clicks
SPLIT_MASKS, SPLIT_ROUNDS = 5, 10
MANY_MASKS = 20  # from here on a single measurement must do: the reference takes a minute
Table = list[list[tuple[float, float]]]  # for each column (Dice, IoU) of each mask


def evaluation_data(images: int, masks: int, size: int) -> tuple[Batch, PromptEntries]:
    """A batch of images of S = `size` with so many masks each, and the opening prompts of its masks."""
    batch = synthetic_batch(images, masks, size)
    return batch, make_prompts(batch, point_num=1, seed=SEED)


def our_table(model: Sam, batch: Batch, prompts: PromptEntries) -> Table:
    """All columns from one encoding of each image: scores by column and mask."""
    predictions = predict_batch(model, batch, prompts, COLUMNS, seed=SEED)
    rows = [row for rows in score_batch(batch, predictions, ["dice", "iou"]) for row in rows]
    return [[(row.scores["dice"], row.scores["iou"]) for row in rows if row.prompt == mode.name] for mode in COLUMNS]


def published_table(model: OracleSam, batch: Batch, prompts: PromptEntries) -> Table:
    """As `our_table`, by a run for each column, which encodes the image of each mask."""
    table, entries = [], [prompts[ref.name] for ref in batch.refs]
    for mode in COLUMNS:
        if mode.opening == BOX:
            openings = [box_opening(torch.tensor(entry["boxes"][0]).float()) for entry in entries]
        else:
            openings = [click_opening(torch.tensor(entry["point_coords"][0]).float()) for entry in entries]
        streams = [random_stream(SEED, ref.key, "clicks") for ref in batch.refs]
        cases = zip(batch.image[batch.image_index], batch.mask[:, 0], openings, streams, strict=True)
        table.append(published_run(model, cases, rounds=mode.clicks))
    return table


class EncodedSam(SharedSam):
    """A model whose image is encoded already: it takes no time."""

    def __init__(self, model: Sam, embedding: Tensor) -> None:
        super().__init__(model)
        self.embedding = embedding

    def encode_all(self, image: Tensor) -> tuple[Tensor, None]:
        """The embedding, whatever the image, of a model without a detail head."""
        return self.embedding, None


@torch.no_grad()
def split_time(model: Sam, image_size: int) -> dict[str, float]:
    """Median milliseconds to "encode" an image, and to "decode" SPLIT_MASKS masks of it for all columns."""
    batch, prompts = evaluation_data(1, SPLIT_MASKS, image_size)
    encoded = EncodedSam(model, model.encode(batch.image))
    calls = {
        "encode": lambda: model.encode(batch.image),
        "decode": lambda: predict_batch(encoded, batch, prompts, COLUMNS, seed=SEED),
    }
    return interleaved(calls, SPLIT_ROUNDS)


def serve_tables(args: argparse.Namespace) -> dict[str, float]:
    """Compute tables for a `Worker`, whose requests are numbers of masks; `split_time` on our side."""
    model = seeded_model(args.only, args).eval()
    make_table = our_table if args.only == OURS else published_table
    data = {masks: evaluation_data(args.images, masks, args.image_size) for masks in args.masks}
    # warm up with all shapes: the reference has one, whatever the number of masks
    for warm in data.values() if args.only == OURS else [evaluation_data(1, 1, args.image_size)]:
        make_table(model, *warm)
    serve(lambda masks: make_table(model, *data[masks]))
    return split_time(model, args.image_size) if args.only == OURS else {}


def evaluate(args: argparse.Namespace) -> dict[str, float]:
    """Compare the table of four prompts with the published runs, and our decoder with our encoder.

    Returns:
        {"ratio_m1", ...} for each number of masks, the baseline's time over ours, and {"decode_over_encode"}.
    """
    if args.only:
        return serve_tables(args)
    workers, found = {name: Worker(side) for name, side in same_command(args).items()}, {}
    for masks in args.masks:
        calls = {name: lambda w=worker, m=masks: w.ask(m) for name, worker in workers.items()}
        once = masks >= MANY_MASKS and args.against is None
        ms = interleaved(calls, 1 if once else args.repeats, warm_up=0)
        ratio = ms[baseline(args)] / ms[OURS]
        seconds = "  ".join(f"{name} {value / 1e3:6.2f} s" for name, value in ms.items())
        print(f"evaluation of {args.images} image(s), {masks:>2} masks each  {seconds}  ratio {ratio:6.2f}", flush=True)
        found[f"ratio_m{masks}"] = round(ratio, 3)
    split = {name: worker.finish() for name, worker in workers.items()}
    for name, ms in split.items():
        if ms:
            print(f"{name}: encode an image {ms['encode']:.0f} ms, decode {SPLIT_MASKS} masks {ms['decode']:.0f} ms")
    return found | {"decode_over_encode": round(split[OURS]["decode"] / split[OURS]["encode"], 3)}


def add_evaluate_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of "evaluate"."""
    parser.add_argument("--repeats", type=int, default=3, help=f"measurements of each; 1 from {MANY_MASKS} masks on")
    parser.add_argument("--images", type=int, default=1, help="images of the data set")
    parser.add_argument("--masks", type=int, nargs="+", default=[1, 5, 20], help="masks of each image, one row each")
    add_model_flags(parser)
