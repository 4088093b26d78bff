"""One side's encoder or decoder, in a process of its own, for `sides.Worker`.

    PYTHONPATH=CHECKOUT python -P benchmarks/part_worker.py decoder --prompts 1 32 --times 16 1

Of this project it imports nothing but segment_anything, that of CHECKOUT, so that the same work is measured in any
checkout; with --reference it measures benchmarks/reference_training.py. Each line of the standard input is the number
of what is to be done (of --prompts); it is answered by a line when it is done. The last line of the output is a JSON
object: {"peak_gb", "outputs"}, some values of each output.
"""

import argparse
import json
import resource
import sys
import zlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

SAMPLE = 4096  # values of an output that are told
SEED = 0  # of the inputs


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["encoder", "decoder"])
    parser.add_argument("--model-type", default="vit_b")
    parser.add_argument("--image-size", type=int, default=256, help="side of the image, pixels")
    parser.add_argument("--adapter", action="store_true", help="the encoder has adapters")
    parser.add_argument("--bfloat16", action="store_true", help="weights in bfloat16 instead of float32")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1], help="boxes that are decoded together")
    parser.add_argument("--times", type=int, nargs="+", default=[1], help="how often, at each request")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--reference", action="store_true", help="measure the reference code")
    return parser.parse_args(argv)


def seeded_model(args: argparse.Namespace) -> nn.Module:
    """The model, with weights that depend on their names alone: the same in every checkout."""
    from segment_anything.build_sam import MODEL_SPECS, build_network

    spec = MODEL_SPECS[args.model_type]
    if args.reference:
        from benchmarks.reference_training import OracleSam

        model = OracleSam(image_size=args.image_size, adapter=args.adapter, **vars(spec))
    else:
        model = build_network(spec, image_size=args.image_size, encoder_adapter=args.adapter)
    for name, value in model.state_dict().items():
        if value.dim() > 1:
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            nn.init.normal_(value, std=value[0].numel() ** -0.5, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(value)
    return model.to(torch.bfloat16 if args.bfloat16 else torch.float32).eval()


def encoding(model: nn.Module, args: argparse.Namespace) -> Callable[[], Tensor]:
    """Encodes one image."""
    image = torch.randn(1, 3, args.image_size, args.image_size, generator=torch.Generator().manual_seed(SEED))
    return lambda: model.image_encoder(image)


def decoding(model: nn.Module, args: argparse.Namespace, count: int) -> Callable[[], Tensor]:
    """Decodes `count` boxes on one embedding, as a user does."""
    generator = torch.Generator().manual_seed(SEED)
    grid = args.image_size // 16
    embedding = torch.randn(1, 256, grid, grid, generator=generator)
    corner = args.image_size / 2 * torch.rand(count, 1, 2, generator=generator)
    points = torch.cat((corner, corner + args.image_size / 4), dim=1), torch.tensor([[2, 3]]).expand(count, 2)
    if args.reference:
        return lambda: model.decode(embedding.expand(count, -1, -1, -1), *points, None)[0]
    return lambda: model.decode_points(embedding, *points).logits


@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Build the model, warm up, serve, and tell what came out."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    model = seeded_model(args)
    if args.part == "encoder":
        calls = [encoding(model, args)]
    else:
        calls = [decoding(model, args, count) for count in args.prompts]
    outputs = [call().float().flatten() for call in calls]
    samples = [values[:: max(1, len(values) // SAMPLE)].tolist() for values in outputs]
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(args.times[int(line)]):
            calls[int(line)]()
        print("done", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB
    print(json.dumps({"peak_gb": peak, "outputs": samples}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
