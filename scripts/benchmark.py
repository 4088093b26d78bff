"""Measure this project against a straightforward rendering of the published formulas, in one run.

    python scripts/benchmark.py encoder

times the image encoder (ViT-B with adapters, 256 px, batch 1, 2 threads) interleaved with
tests/oracle_encoder.py, checks that the outputs agree, and measures time and peak memory at 1024 px without
adapters, each encoder in a process of its own (`--skip-memory` leaves that out). Expect about two minutes on
two cores, a table, and as the last line one JSON object {"fp32_ratio", "bf16_ratio", "fp32_ms", "bf16_ms"}.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from oracle_encoder import OracleEncoder  # noqa: E402

from segment_anything.modeling.image_encoder import ImageEncoderViT  # noqa: E402

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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB
    return {"seconds": seconds, "peak_gb": peak}


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


# name of the sub-command: (function, its flags)
BENCHMARKS = {"encoder": (encoder, add_encoder_flags)}


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
