"""The image encoder: time and peak memory."""

import argparse

from benchmarks.decoder import largest_difference
from benchmarks.sides import OURS, Worker, add_against, baseline, part_worker
from sam_med2d.runtime.timing import interleaved

SIZE = 256  # pixels
FP32_TOLERANCE = 1e-4
BF16 = "bf16"  # this code with weights in bfloat16


def add_encoder_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of "encoder"."""
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds; medians are reported")
    parser.add_argument("--skip-memory", action="store_true", help="leave out the large image (a minute)")
    parser.add_argument("--large-size", type=int, default=1024, help="side of the large image, pixels")
    add_against(parser)


def compare_large(args: argparse.Namespace) -> None:
    """Print the better of two times and the peak memory of both sides at the large size, one side after the other."""
    seconds = {}
    for side in (baseline(args), OURS):
        worker = Worker(part_worker(args, side, "encoder", "--image-size", args.large_size))
        seconds[side] = min(interleaved({"": lambda w=worker: w.ask(0)}, 1, 0)[""] for _ in range(2)) / 1e3
        peak = worker.finish()["peak_gb"]
        print(f"{args.large_size} px {side:>7}  {seconds[side]:6.2f} s   peak {peak:.2f} GB", flush=True)
    print(f"{args.large_size} px   ratio  {seconds[baseline(args)] / seconds[OURS]:6.2f}")


def encoder(args: argparse.Namespace) -> dict[str, float]:
    """Compare the image encoder in fp32 and bf16 with the reference code in fp32.

    Returns:
        {"fp32_ratio", "bf16_ratio", "fp32_ms", "bf16_ms"}: the baseline's time over ours, and ours.

    Raises:
        SystemExit: outputs in fp32 differ by more than FP32_TOLERANCE.
    """
    if not args.skip_memory:
        compare_large(args)
    words = ["encoder", "--adapter", "--image-size", SIZE]
    sides = {side: part_worker(args, side, *words) for side in (baseline(args), OURS)}
    sides[BF16] = part_worker(args, OURS, *words, "--bfloat16")
    workers = {name: Worker(side) for name, side in sides.items()}
    ms = interleaved({name: lambda w=worker: w.ask(0) for name, worker in workers.items()}, args.rounds)
    outputs = {name: worker.finish()["outputs"][0] for name, worker in workers.items()}
    ratio = {name: ms[baseline(args)] / value for name, value in ms.items()}
    difference = {name: largest_difference(output, outputs[baseline(args)]) for name, output in outputs.items()}
    for name, value in ms.items():
        print(f"{SIZE} px {name:>7}  {value:6.0f} ms  ratio {ratio[name]:5.2f}  max diff {difference[name]:.1e}")
    if difference[OURS] > FP32_TOLERANCE:
        raise SystemExit(f"fp32 output differs by {difference[OURS]:.1e}, the limit is {FP32_TOLERANCE}")
    return {
        "fp32_ratio": round(ratio[OURS], 3),
        "bf16_ratio": round(ratio[BF16], 3),
        "fp32_ms": round(ms[OURS], 1),
        "bf16_ms": round(ms[BF16], 1),
    }
