"""Decoding boxes on the embedding of one image."""

import argparse

from benchmarks.sides import OURS, Worker, add_against, baseline, part_worker
from sam_med2d.runtime.timing import interleaved
from segment_anything.build_sam import MODEL_SPECS

AT_ONCE = 64  # prompts that a request decodes: its own time, and the first call on cold caches, are small beside theirs


def add_decoder_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of "decoder"."""
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 32], help="boxes that are decoded together")
    parser.add_argument("--rounds", type=int, default=20, help="interleaved rounds; medians are reported")
    parser.add_argument("--model-type", choices=MODEL_SPECS, default="vit_b", help="all have the same decoder")
    parser.add_argument("--image-size", type=int, default=256, help="side of the image, pixels")
    add_against(parser)


def decoder(args: argparse.Namespace) -> dict[str, float]:
    """Compare the decoding of one prompt and of 32 prompts with the reference code.

    Returns:
        {"ratio_1", "ms_1", "ratio_32", "ms_32"}: the baseline's time over ours, and ours.
    """
    times = [max(1, AT_ONCE // count) for count in args.prompts]
    words = ["decoder", "--model-type", args.model_type, "--image-size", args.image_size]
    words += ["--prompts", *args.prompts, "--times", *times]
    workers = {side: Worker(part_worker(args, side, *words)) for side in (baseline(args), OURS)}
    found, lines = {}, []
    for number, count in enumerate(args.prompts):
        ms = interleaved({side: lambda w=w, i=number: w.ask(i) for side, w in workers.items()}, args.rounds)
        ms = {side: value / times[number] for side, value in ms.items()}
        ratio = ms[baseline(args)] / ms[OURS]
        columns = "  ".join(f"{side} {value:7.2f} ms" for side, value in ms.items())
        lines.append(f"{count:>3} prompt(s)  {columns}  ratio {ratio:5.2f}")
        found |= {f"ratio_{count}": round(ratio, 3), f"ms_{count}": round(ms[OURS], 2)}
    outputs = [worker.finish()["outputs"] for worker in workers.values()]
    for line, *values in zip(lines, *outputs, strict=True):
        print(f"{line}  max diff {largest_difference(*values):.1e}")
    return found


def largest_difference(first: list[float], second: list[float]) -> float:
    """Of two lists of values of the same length."""
    return max(abs(a - b) for a, b in zip(first, second, strict=True))
