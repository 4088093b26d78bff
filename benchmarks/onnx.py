"""Exported files in onnxruntime against PyTorch: the benchmark "onnx".

    python -m benchmarks onnx

exports a ViT-B encoder with random weights (256 px, no adapters; `--encoder_adapter` adds them), makes its int8 file
(dynamic scales), and times both in turn with PyTorch in fp32, one image, 2 threads; then the decoder for one prompt and
for 32, and vit_t's encoder and decoder for one prompt. Masks come back at 256 px. Expect a minute on two free cores,
a table, and as the last line one JSON object {"ort_fp32_ratio", "ort_int8_ratio", "decoder_ms", "decoder_batch32_ms",
"vit_t_ms"}: PyTorch's time over the file's, and milliseconds in fp32, of a batch for each of its prompts.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from sam_med2d.runtime.timing import interleaved
from segment_anything.build_sam import MODEL_SPECS, build_network
from segment_anything.modeling import Sam

MANY = 32  # prompts of a batch


def add_onnx_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds; medians are reported")
    parser.add_argument("--model-type", choices=MODEL_SPECS, default="vit_b", help="of the encoder to compare")
    parser.add_argument("--image-size", type=int, default=256, help="side of the images, pixels")
    parser.add_argument("--encoder_adapter", action="store_true", help="the encoder to compare has adapters")


def _model(model_type: str, size: int, *, adapter: bool = False) -> Sam:
    torch.manual_seed(0)
    return build_network(MODEL_SPECS[model_type], image_size=size, encoder_adapter=adapter).eval()


def onnx_files(args: argparse.Namespace) -> dict[str, float]:
    """Compare exported encoders with PyTorch, and time the decoder."""
    with tempfile.TemporaryDirectory() as folder:
        return _compare(args, Path(folder)) | _small(args, Path(folder))


def _export(model: Sam, part_name: str, folder: Path) -> Path:
    from sam_med2d.export.onnx_files import file_metadata, make_checked  # the other benchmarks need no onnx
    from sam_med2d.export.onnx_parts import decoder_part, encoder_part

    part = encoder_part(model) if part_name == "encoder" else decoder_part(model)
    folder.mkdir()
    return make_checked(part, folder, "model.onnx", 17, file_metadata(model, "", part))[0]


def _compare(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Times of the encoder in PyTorch and in onnxruntime, fp32 and int8."""
    from sam_med2d.export.onnx_files import session
    from sam_med2d.export.quantization import quantize

    model = _model(args.model_type, args.image_size, adapter=args.encoder_adapter)
    fp32 = _export(model, "encoder", folder / "compared")
    quantize(fp32, folder / "int8.onnx", {})
    image = torch.randn(1, 3, args.image_size, args.image_size, generator=torch.Generator().manual_seed(0))
    files = {"fp32": session(fp32, args.threads), "int8": session(folder / "int8.onnx", args.threads)}
    calls: dict[str, Callable[[], object]] = {"torch fp32": torch.inference_mode()(lambda: model.encode(image))}
    for name, file in files.items():
        calls[f"ort {name}"] = lambda f=file: f.run(None, {"input_image": image.numpy()})
    ms = interleaved(calls, args.rounds)
    for name, value in ms.items():
        ratio = ms["torch fp32"] / value
        print(f"{args.model_type} encoder {name:>10}  {value:7.1f} ms  ratio {ratio:5.2f}", flush=True)
    return {f"ort_{kind}_ratio": round(ms["torch fp32"] / ms[f"ort {kind}"], 3) for kind in ("fp32", "int8")}


def _small(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Times of vit_t's files: the decoder for one prompt and for many, the encoder and the decoder together."""
    from sam_med2d.export.onnx_files import session

    model = _model("vit_t", args.image_size)
    encoder, decoder = (session(_export(model, name, folder / name), args.threads) for name in ("encoder", "decoder"))
    image = {"input_image": np.random.default_rng(0).normal(size=(1, 3, args.image_size, args.image_size))}
    image = {name: value.astype(np.float32) for name, value in image.items()}
    embedding = encoder.run(None, image)[0]
    one, many = (_boxes(embedding, count, args.image_size) for count in (1, MANY))
    calls: dict[str, Callable[[], object]] = {
        "decoder": lambda: decoder.run(None, one),
        f"decoder, {MANY} prompts": lambda: decoder.run(None, many),
        "vit_t encoder": lambda: encoder.run(None, image),
        "vit_t both": lambda: decoder.run(None, one | {"image_embeddings": encoder.run(None, image)[0]}),
    }
    ms = interleaved(calls, args.rounds)
    for name, value in ms.items():
        print(f"ort fp32 {name:<20} {value:7.1f} ms")
    per_prompt = ms[f"decoder, {MANY} prompts"] / MANY
    times = {"decoder_ms": ms["decoder"], "decoder_batch32_ms": per_prompt, "vit_t_ms": ms["vit_t both"]}
    return {name: round(value, 2) for name, value in times.items()}


def _boxes(embedding: np.ndarray, count: int, size: int) -> dict[str, np.ndarray]:
    """Decoder inputs: a box for each of `count` masks."""
    corner = np.random.default_rng(0).uniform(0, size / 2, (count, 1, 2))
    inputs = {
        "image_embeddings": embedding,
        "point_coords": np.concatenate((corner, corner + size / 4), 1),
        "point_labels": np.tile([2, 3], (count, 1)),
        "mask_input": np.zeros((1, 1, size // 4, size // 4)),
        "has_mask_input": np.zeros(1),
        "orig_im_size": np.array([size, size]),
    }
    return {name: value.astype(np.float32) for name, value in inputs.items()}
