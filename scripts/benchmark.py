"""Measure this project against a straightforward rendering of the published formulas, in one run.

    python scripts/benchmark.py encoder

times the image encoder (ViT-B with adapters, 256 px, batch 1, 2 threads) interleaved with
tests/oracle_encoder.py, checks that the outputs agree, and measures time and peak memory at 1024 px without
adapters, each encoder in a process of its own (`--skip-memory` leaves that out). Expect about two minutes on
two cores, a table, and as the last line one JSON object {"fp32_ratio", "bf16_ratio", "fp32_ms", "bf16_ms"}.

    python scripts/benchmark.py train

times a training step (ViT-B with adapters, 256 px, 2 images of 5 masks, an opening prompt and 8 corrective
rounds, AdamW, fp32, 2 threads) in turn with the published step of tests/oracle_training.py, each in a process of
its own. Expect about four minutes, 8 GB of memory, a line for each, and as the last line one JSON object
{"seconds_per_image", "baseline_seconds_per_image", "ratio", "peak_gb"}: medians, and the peak memory of our process.

    python scripts/benchmark.py evaluate

times the table of a box, 1, 3 and 5 clicks (ViT-B with adapters, 256 px, fp32, 2 threads) for an image with 1, 5 and
20 masks, in turn with the published runs of tests/oracle_evaluation.py: one for each kind of prompt, in which every
mask is encoded with its image and decoded by itself. Weights, prompts, click streams and scores (Dice and IoU) are
the same. Expect about four minutes, a line for each number of masks, and as the last line one JSON object
{"ratio_m1", "ratio_m5", "ratio_m20", "decode_over_encode"}: published time over ours, and the time to decode 5 masks
with all kinds of prompts over that of one encoding.

    python scripts/benchmark.py prepare

prepares 10,000 synthetic photographs of 512 px with two masks each (`--images` for fewer) on `--threads` processes.
Expect a few minutes and 3 GB of disk, and as the last line one JSON object {"images_per_second",
"images_per_cpu_second", "peak_mb", "peak_mb_of_a_quarter"}: the memory of the largest process for all and a quarter.

    python scripts/benchmark.py onnx

times exported files in onnxruntime: see scripts/benchmark_onnx.py.
"""

import argparse
import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.dataset_conversion import (
    add_prepare_flags,  # noqa: E402
    prepare,  # noqa: E402
)
from benchmarks.onnx import (
    add_onnx_flags,  # noqa: E402
    onnx_files,  # noqa: E402
)
from benchmarks.reference_encoder import OracleEncoder  # noqa: E402
from benchmarks.reference_evaluation import (
    box_opening,  # noqa: E402
    click_opening,  # noqa: E402
    published_run,  # noqa: E402
)
from benchmarks.reference_training import (
    OracleSam,  # noqa: E402
    published_step,  # noqa: E402
)
from benchmarks.timing import (
    Worker,  # noqa: E402
    interleaved,  # noqa: E402
    peak_memory,  # noqa: E402
    serve,  # noqa: E402
)
from sam_med2d.data.dataset import Batch  # noqa: E402
from sam_med2d.data.records import (
    MaskRef,  # noqa: E402
    Record,  # noqa: E402
)
from sam_med2d.evaluation.batch_prediction import BOX, parse_mode, predict_batch
from sam_med2d.evaluation.scoring import score_batch
from sam_med2d.prompts.prompt_file import (
    Prompts,  # noqa: E402
    make_prompts,  # noqa: E402
    stream,  # noqa: E402
)
from sam_med2d.runtime.memory import keep_freed_memory  # noqa: E402
from sam_med2d.training.optimizer import (
    Gradients,  # noqa: E402
    factor_adapters,  # noqa: E402
    make_optimizer,  # noqa: E402
)
from sam_med2d.training.step import (
    StepPolicy,  # noqa: E402
    objectives,  # noqa: E402
    select_trainable,  # noqa: E402
)
from segment_anything.build_sam import MODEL_SPECS, build_network  # noqa: E402
from segment_anything.modeling import Sam  # noqa: E402
from segment_anything.modeling.image_encoder import ImageEncoderViT  # noqa: E402
from segment_anything.preprocessing import Frame  # noqa: E402

VIT_B = {"embed_dim": 768, "depth": 12, "num_heads": 12, "global_attn_indexes": (2, 5, 8, 11)}
ENCODERS = {"oracle": OracleEncoder, "fast": ImageEncoderViT}
FP32_TOLERANCE = 1e-4


def seeded_encoder(kind: str, image_size: int, adapter: bool) -> nn.Module:
    """An encoder with the same weights for every `kind`; its relative positions are not zero."""
    torch.manual_seed(0)
    source = ImageEncoderViT(image_size=image_size, adapter=adapter, **VIT_B)
    for block in source.blocks:
        nn.init.normal_(block.attn.rel_pos_h, std=0.2)
        nn.init.normal_(block.attn.rel_pos_w, std=0.2)
    if kind == "fast":
        return source.eval()
    encoder = ENCODERS[kind](image_size=image_size, adapter=adapter, **VIT_B)
    encoder.load_state_dict(source.state_dict())
    return encoder.eval()


def measure_once(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of one warm forward pass and peak memory (GB) of this process, for one encoder."""
    encoder = seeded_encoder(args.only, args.large_size, adapter=False)
    image = torch.randn(1, 3, args.large_size, args.large_size)
    with torch.inference_mode():
        seconds = min(interleaved({"run": lambda: encoder(image)}, rounds=2).values()) / 1e3
    return {"seconds": seconds, "peak_gb": peak_memory()}


def side_command(args: argparse.Namespace, kind: str) -> list[str]:
    """The command that was given, for one side of the comparison."""
    return [sys.executable, __file__, *args.given, "--only", kind]


def compare_large(args: argparse.Namespace) -> None:
    """Print time and peak memory of both encoders at the large size, each in its own process."""
    found = {}
    for kind in ENCODERS:
        output = subprocess.run(side_command(args, kind), check=True, capture_output=True, text=True).stdout
        found[kind] = json.loads(output.splitlines()[-1])
        seconds, peak = found[kind]["seconds"], found[kind]["peak_gb"]
        print(f"{args.large_size} px {kind:>7}  {seconds:6.2f} s   peak {peak:.2f} GB")
    print(f"{args.large_size} px   ratio  {found['oracle']['seconds'] / found['fast']['seconds']:6.2f}")


def encoder(args: argparse.Namespace) -> dict[str, float]:
    """Compare the fast encoder in fp32 and bf16 with the fp32 oracle."""
    if args.only:
        return measure_once(args)
    if not args.skip_memory:
        compare_large(args)  # first: a child's peak starts from the memory its parent holds when it starts it
    models = {kind: seeded_encoder(kind, 256, adapter=True) for kind in ENCODERS}
    models["bf16"] = seeded_encoder("fast", 256, adapter=True).bfloat16()
    image = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        outputs = {name: model(image).float() for name, model in models.items()}
        ms = interleaved({name: lambda m=model: m(image) for name, model in models.items()}, args.rounds)
    difference = {name: (output - outputs["oracle"]).abs().max().item() for name, output in outputs.items()}
    for name, value in ms.items():
        ratio = ms["oracle"] / value
        print(f"256 px {name:>7}  {value:6.0f} ms  ratio {ratio:5.2f}  max diff {difference[name]:.1e}")
    if difference["fast"] > FP32_TOLERANCE:
        raise SystemExit(f"fp32 output differs by {difference['fast']:.1e}, the limit is {FP32_TOLERANCE}")
    return {
        "fp32_ratio": round(ms["oracle"] / ms["fast"], 3),
        "bf16_ratio": round(ms["oracle"] / ms["bf16"], 3),
        "fp32_ms": round(ms["fast"], 1),
        "bf16_ms": round(ms["bf16"], 1),
    }


def add_encoder_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds; medians are reported")
    parser.add_argument("--skip-memory", action="store_true", help="leave out the large image (a minute)")
    parser.add_argument("--large-size", type=int, default=1024, help="side of the large image, pixels")
    parser.add_argument("--only", choices=ENCODERS, help="measure the large image here, one encoder")


# --- models and batches ---------------------------------------------------------------------------------------


def seeded_model(kind: str, args: argparse.Namespace) -> Sam | OracleSam:
    """A model with adapters and the same weights for every `kind`."""
    torch.manual_seed(0)
    spec = MODEL_SPECS[args.model_type]
    source = build_network(spec, image_size=args.image_size, encoder_adapter=True)
    if kind == "fast":
        return source
    model = OracleSam(image_size=args.image_size, adapter=True, **vars(spec))
    model.load_state_dict(source.state_dict())
    return model


def synthetic_batch(images: int, masks: int, size: int) -> Batch:
    """Noise, already in the model frame, with `masks` rectangles of several sizes on each image."""
    count = images * masks
    mask = torch.zeros(count, 1, size, size, dtype=torch.bool)
    shifts = [i % (size // 4) for i in range(count)]
    box = torch.tensor([[size // 4, size // 8 + shift, size // 2 + shift, size // 2] for shift in shifts])
    for i, (left, top, right, bottom) in enumerate(box.tolist()):
        mask[i, 0, top:bottom, left:right] = True
    refs = [MaskRef(Path(f"{i}.png"), f"{i}.png", "rectangle") for i in range(count)]
    return Batch(
        image=torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(0)),
        mask=mask,
        box=box.float(),
        image_index=torch.arange(images).repeat_interleave(masks),
        asked=torch.full((count,), -1),
        refs=refs,
        seeds=[0] * count,
        frames=[Frame(size, (size, size), (0, 0, size, size), (0, 0, size, size))] * images,
        records=[Record(Path(f"{i}.jpg"), tuple(refs[i * masks : (i + 1) * masks])) for i in range(images)],
        truth=list(mask[:, 0].numpy()),
    )


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-type", choices=MODEL_SPECS, default="vit_b")
    parser.add_argument("--image-size", type=int, default=256, help="side of the images, pixels")
    parser.add_argument("--only", choices=ENCODERS, help=argparse.SUPPRESS)  # the side of one worker process


# --- training step --------------------------------------------------------------------------------------------


def fast_step(
    model: Sam, optimizer: torch.optim.Optimizer, batch: Batch, rounds: int, generator: torch.Generator
) -> None:
    """A step of this project, as trainer.py makes it by default: an update for each round."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    policy = StepPolicy(corrective_rounds=rounds, update="round")
    inputs = (batch.image, batch.mask, batch.box, batch.image_index)
    remaining = objectives(model, *inputs, policy=policy, clicks=policy.draw(generator), randomness=generator)
    for _ in range(policy.updates):
        objective, _ = next(remaining)
        objective.backward()
        gradients = Gradients(parameters)
        gradients.clip(1.0)
        gradients.update(optimizer.step)


def training_step(args: argparse.Namespace) -> Callable[[], object]:
    """The step of `args.only` on the same batch again and again; clicks differ from step to step."""
    batch, generator = synthetic_batch(args.images, args.masks, args.image_size), torch.Generator().manual_seed(0)
    model = seeded_model(args.only, args)
    if args.only == "fast":
        keep_freed_memory()  # as train.py does
        select_trainable(model, "adapter")
        factor_adapters(model)
        model.image_encoder.grad_checkpointing = args.grad_checkpointing
        optimizer = make_optimizer(model.train(), lr=1e-4, weight_decay=0.01)
        return lambda: fast_step(model, optimizer, batch, args.rounds, generator)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("image_encoder.") or ".Adapter." in name)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    inputs = (batch.image, batch.mask, batch.box)
    return lambda: published_step(model, optimizer, *inputs, rounds=args.rounds, generator=generator)


def train(args: argparse.Namespace) -> dict[str, float]:
    """Compare a training step with the published one: time and peak memory."""
    if args.only:
        step = training_step(args)
        serve(lambda _: step())
        return {"peak_gb": peak_memory()}
    workers = {kind: Worker(side_command(args, kind)) for kind in ENCODERS}
    seconds = interleaved({kind: worker.ask for kind, worker in workers.items()}, args.repeats)
    peak = {kind: worker.finish()["peak_gb"] for kind, worker in workers.items()}
    image_seconds = {kind: ms / 1e3 / args.images for kind, ms in seconds.items()}
    for kind, value in image_seconds.items():
        print(f"training step {kind:>7}  {value:6.2f} s per image  peak {peak[kind]:.2f} GB")
    return {
        "seconds_per_image": round(image_seconds["fast"], 3),
        "baseline_seconds_per_image": round(image_seconds["oracle"], 3),
        "ratio": round(image_seconds["oracle"] / image_seconds["fast"], 3),
        "peak_gb": round(peak["fast"], 3),
    }


def add_train_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=9, help="measured steps of each kind, after one to warm up")
    parser.add_argument("--images", type=int, default=2, help="images of a step")
    parser.add_argument("--masks", type=int, default=5, help="masks of each image")
    parser.add_argument("--rounds", type=int, default=8, help="corrective rounds of a step")
    parser.add_argument("--grad-checkpointing", action="store_true", help="our encoder computes its blocks twice")
    add_model_flags(parser)


# --- evaluation -----------------------------------------------------------------------------------------------

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
    return [[(row["dice"], row["iou"]) for row in rows if row["prompt"] == mode.name] for mode in COLUMNS]


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


# name of the sub-command: (function, its flags)
BENCHMARKS = {
    "encoder": (encoder, add_encoder_flags),
    "train": (train, add_train_flags),
    "evaluate": (evaluate, add_evaluate_flags),
    "prepare": (prepare, add_prepare_flags),
    "onnx": (onnx_files, add_onnx_flags),
}


def main(argv: list[str] | None = None) -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, (function, add_flags) in BENCHMARKS.items():
        command = commands.add_parser(name, help=function.__doc__)
        command.add_argument("--threads", type=int, default=2, help="CPU threads")
        add_flags(command)
    args = parser.parse_args(argv)
    args.given = sys.argv[1:] if argv is None else argv
    torch.set_num_threads(args.threads)
    print(json.dumps(BENCHMARKS[args.benchmark][0](args)))


if __name__ == "__main__":
    main()
