"""The image encoder against a straightforward rendering of the published formulas."""

import argparse
import json
import subprocess

import torch
from torch import nn

from benchmarks.models import ENCODERS, side_command
from benchmarks.timing import (
    interleaved,
    peak_memory,
)
from segment_anything.modeling.image_encoder import ImageEncoderViT

VIT_B = {"embed_dim": 768, "depth": 12, "num_heads": 12, "global_attn_indexes": (2, 5, 8, 11)}
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
