"""Measure this project against a straightforward rendering of the published formulas, in one run.

    python scripts/benchmark.py encoder

times the image encoder (ViT-B with adapters, 256 px, batch 1, 2 threads) interleaved with
tests/oracle_encoder.py, checks that the outputs agree, and measures time and peak memory at 1024 px without
adapters, each encoder in a process of its own (`--skip-memory` leaves that out). Expect about two minutes on
two cores, a table, and as the last line one JSON object {"fp32_ratio", "bf16_ratio", "fp32_ms", "bf16_ms"}.

    python scripts/benchmark.py train

times a training step (ViT-B with adapters, 256 px, 2 images of 5 masks, an opening prompt and 8 corrective
rounds, AdamW, fp32, 2 threads) in turn with the published step of tests/oracle_training.py, each in a process of
its own. Expect about one and a half minutes, 8 GB of memory, a line for each, and as the last line one JSON object
{"seconds_per_image", "baseline_seconds_per_image", "ratio", "peak_gb"}: medians, and the peak memory of our process.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from segment_anything.build_sam import MODEL_SPECS, build_network  # noqa: E402
from segment_anything.modeling import Sam  # noqa: E402
from segment_anything.modeling.image_encoder import ImageEncoderViT  # noqa: E402
from segment_anything.training.optimisation import make_optimizer  # noqa: E402
from segment_anything.training.step import StepPolicy, objectives, select_trainable  # noqa: E402
from tests.oracle_encoder import OracleEncoder  # noqa: E402
from tests.oracle_training import OracleSam, published_step  # noqa: E402
from utils import keep_freed_memory  # noqa: E402

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


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each call over `rounds`, one of each in turn, after one round of warming up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def measure_once(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of one warm forward pass and peak memory (GB) of this process, for one encoder."""
    encoder = seeded_encoder(args.only, args.large_size, adapter=False)
    image = torch.randn(1, 3, args.large_size, args.large_size)
    with torch.inference_mode():
        seconds = min(interleaved({"run": lambda: encoder(image)}, rounds=2).values()) / 1e3
    return {"seconds": seconds, "peak_gb": peak_memory()}


def peak_memory() -> float:
    """Largest resident size of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB


def compare_large(args: argparse.Namespace) -> None:
    """Print time and peak memory of both encoders at the large size, each in its own process."""
    found = {}
    for kind in ENCODERS:
        command = [sys.executable, __file__, "encoder", "--only", kind, "--threads", str(args.threads)]
        command += ["--large-size", str(args.large_size)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
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


# --- training step --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingBatch:
    """image [B, 3, S, S], mask bool [N, 1, S, S], box [N, 4], image_index [N]."""

    image: Tensor
    mask: Tensor
    box: Tensor
    image_index: Tensor


def training_batch(args: argparse.Namespace) -> TrainingBatch:
    """Noise, with rectangles of several sizes as masks."""
    size, count = args.image_size, args.images * args.masks
    mask = torch.zeros(count, 1, size, size, dtype=torch.bool)
    box = torch.tensor([[size // 4, size // 8 + i, size // 2 + i, size // 2] for i in range(count)])
    for i, (left, top, right, bottom) in enumerate(box.tolist()):
        mask[i, 0, top:bottom, left:right] = True
    image = torch.randn(args.images, 3, size, size)
    return TrainingBatch(image, mask, box.float(), torch.arange(args.images).repeat_interleave(args.masks))


def fast_step(
    model: Sam, optimizer: torch.optim.Optimizer, batch: TrainingBatch, rounds: int, generator: torch.Generator
) -> None:
    """A step of this project, as trainer.py makes it by default: an update for each round."""
    policy = StepPolicy(corrective_rounds=rounds, update="round")
    inputs = (batch.image, batch.mask, batch.box, batch.image_index)
    remaining = objectives(model, *inputs, policy=policy, clicks=policy.draw(generator), randomness=generator)
    for _ in range(policy.updates):
        optimizer.zero_grad(set_to_none=True)
        objective, _ = next(remaining)
        objective.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def training_step(args: argparse.Namespace) -> Callable[[], object]:
    """The step of `args.only` on the same batch again and again; clicks differ from step to step."""
    torch.manual_seed(0)
    batch, generator = training_batch(args), torch.Generator().manual_seed(0)
    spec = MODEL_SPECS[args.model_type]
    if args.only == "fast":
        keep_freed_memory()  # as train.py does
        model = build_network(spec, image_size=args.image_size, encoder_adapter=True)
        select_trainable(model, "adapter")
        model.image_encoder.grad_checkpointing = args.grad_checkpointing
        optimizer = make_optimizer(model.train(), lr=1e-4, weight_decay=0.01)
        return lambda: fast_step(model, optimizer, batch, args.rounds, generator)
    model = OracleSam(image_size=args.image_size, adapter=True, **vars(spec))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("image_encoder.") or ".Adapter." in name)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    inputs = (batch.image, batch.mask, batch.box)
    return lambda: published_step(model, optimizer, *inputs, rounds=args.rounds, generator=generator)


def serve_steps(args: argparse.Namespace) -> dict[str, float]:
    """Run one step for each line of the standard input and print its seconds; at the end the peak memory."""
    step = training_step(args)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)
    return {"peak_gb": peak_memory()}


def train(args: argparse.Namespace) -> dict[str, float]:
    """Compare a training step with the published one: time and peak memory."""
    if args.only:
        return serve_steps(args)
    flags = ("threads", "model_type", "image_size", "images", "masks", "rounds")
    command = [sys.executable, __file__, "train"]
    command += [f"--{flag.replace('_', '-')}={getattr(args, flag)}" for flag in flags]
    command += ["--grad-checkpointing"] * args.grad_checkpointing
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = {kind: subprocess.Popen([*command, "--only", kind], **pipes) for kind in ENCODERS}
    seconds = interleaved({kind: lambda w=worker: ask(w) for kind, worker in workers.items()}, args.repeats)
    peak = {kind: json.loads(worker.communicate()[0])["peak_gb"] for kind, worker in workers.items()}
    image_seconds = {kind: ms / 1e3 / args.images for kind, ms in seconds.items()}
    for kind, value in image_seconds.items():
        print(f"training step {kind:>7}  {value:6.2f} s per image  peak {peak[kind]:.2f} GB")
    return {
        "seconds_per_image": round(image_seconds["fast"], 3),
        "baseline_seconds_per_image": round(image_seconds["oracle"], 3),
        "ratio": round(image_seconds["oracle"] / image_seconds["fast"], 3),
        "peak_gb": round(peak["fast"], 3),
    }


def ask(worker: subprocess.Popen[str]) -> None:
    """Have a worker make one step, and wait for it. Raises RuntimeError when it has ended."""
    if worker.poll() is None:
        worker.stdin.write("step\n")
        worker.stdin.flush()
    if not worker.stdout.readline():
        raise RuntimeError("a benchmark process ended early: its message is above")


def add_train_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5, help="measured steps of each kind, after one to warm up")
    parser.add_argument("--model-type", choices=MODEL_SPECS, default="vit_b")
    parser.add_argument("--image-size", type=int, default=256, help="side of the images, pixels")
    parser.add_argument("--images", type=int, default=2, help="images of a step")
    parser.add_argument("--masks", type=int, default=5, help="masks of each image")
    parser.add_argument("--rounds", type=int, default=8, help="corrective rounds of a step")
    parser.add_argument("--grad-checkpointing", action="store_true", help="our encoder computes its blocks twice")
    parser.add_argument("--only", choices=ENCODERS, help=argparse.SUPPRESS)  # the side of one worker process


# name of the sub-command: (function, its flags)
BENCHMARKS = {"encoder": (encoder, add_encoder_flags), "train": (train, add_train_flags)}


def main(argv: list[str] | None = None) -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, (function, add_flags) in BENCHMARKS.items():
        command = commands.add_parser(name, help=function.__doc__)
        command.add_argument("--threads", type=int, default=2, help="CPU threads")
        add_flags(command)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    print(json.dumps(BENCHMARKS[args.benchmark][0](args)))


if __name__ == "__main__":
    main()
