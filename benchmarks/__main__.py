"""Measure this project against straightforward reference code of the published formulas, in one run.

    python -m benchmarks encoder

times the image encoder (ViT-B with adapters, 256 px, batch 1, 2 threads) in turn with benchmarks/reference_encoder.py,
checks that the outputs agree, and measures time and peak memory at 1024 px without adapters (`--skip-memory` leaves
that out). Expect about two minutes on two cores, a table, and as the last line one JSON object {"fp32_ratio",
"bf16_ratio", "fp32_ms", "bf16_ms"}.

    python -m benchmarks decoder

times the decoding of one box and of 32 boxes on the embedding of one image (256 px, 2 threads) in turn with the decoder
of benchmarks/reference_training.py. Expect half a minute, a line for each, and as the last line one JSON object
{"ratio_1", "ms_1", "ratio_32", "ms_32"}: the reference's time over ours, and our milliseconds.

    python -m benchmarks train

times a training step (ViT-B with adapters, 256 px, 2 images of 5 masks, an opening prompt and 8 corrective
rounds, AdamW, fp32, 2 threads) in turn with the published step of benchmarks/reference_training.py, each in a
process of its own. Expect about four minutes, 8 GB of memory, a line for each, and as the last line one JSON object
{"seconds_per_image", "baseline_seconds_per_image", "ratio", "peak_gb"}: medians, and the peak memory of our process.

    python -m benchmarks evaluate

times the table of a box, 1, 3 and 5 clicks (ViT-B with adapters, 256 px, fp32, 2 threads) for an image with 1, 5 and
20 masks, in turn with the published runs of benchmarks/reference_evaluation.py: one for each kind of prompt, in which
every mask is encoded with its image and decoded by itself. Weights, prompts, click streams and scores (Dice and
IoU) are the same. Expect about four minutes, a line for each number of masks, and as the last line one JSON object
{"ratio_m1", "ratio_m5", "ratio_m20", "decode_over_encode"}: published time over ours, and the time to decode 5 masks
with all kinds of prompts over that of one encoding.

    python -m benchmarks reading

reads 200 photographs of 512 x 512 and 10 of 4288 x 2848 pixels as JPEG and as PNG, in turn with OpenCV alone, which
looks at nothing that a file says of itself. Expect two minutes, a line for each, and as the last line one JSON object
{"ratio_small_jpg", "ms_small_jpg", ...}: the reference's time over ours, and our milliseconds for a photograph.

    python -m benchmarks predict --against CHECKOUT

predicts all structures of 8 photographs of 4000 px and of 512 px, drawn or of `--photographs FOLDER`, in turn with
scripts/predict.py of another checkout. Expect some minutes, a line for each side and checkout, and as the last line one
JSON object {"ratio_4000", "cpu_ratio_4000", "images_per_second_4000", "peak_gb_4000", ...}: the other's time a
photograph over ours, by the clock and by the processors', without that of starting, our speed, and our peak memory.

With `--against CHECKOUT` the first five compare with another checkout of this project instead, an earlier one for
instance: ratios are its time over ours.

    python -m benchmarks prepare

prepares 10,000 synthetic photographs of 512 px with two masks each (`--images` for fewer) on `--threads` processes.
Expect a few minutes and 3 GB of disk, and as the last line one JSON object {"images_per_second",
"images_per_cpu_second", "peak_mb", "peak_mb_of_a_quarter"}: the memory of the largest process for all and a quarter.

    python -m benchmarks peers --data_path FOLDER ...

trains a plain U-Net on EfficientNet-Lite0, one output for each structure, on the training photographs of the folders,
and scores it by structure on those of --split, as test.py does. Expect 20 minutes for 697 steps, a line for each 20 of
them, and as the last line one JSON object {structure: mean Dice, ..., "all", "seconds"}.

    python -m benchmarks adaptation --data_path FOLDER ... --data_set NAME --start WEIGHTS

adapts weights that were trained without a data set with 3, 10 and 30 of its training photographs, three times each, and
scores its test photographs by structure. Expect minutes for each adaptation, a line for each, and as the last line one
JSON object {"start", "3", "10", "30", "others"}.

    python -m benchmarks onnx

times exported files in onnxruntime: see benchmarks/onnx.py.
"""

import argparse
import json
import sys

import torch

from benchmarks.adaptation import adaptation, add_adaptation_flags
from benchmarks.dataset_conversion import add_prepare_flags, prepare
from benchmarks.decoder import add_decoder_flags, decoder
from benchmarks.encoder import add_encoder_flags, encoder
from benchmarks.evaluation import add_evaluate_flags, evaluate
from benchmarks.onnx import add_onnx_flags, onnx_files
from benchmarks.peers import add_peers_flags, peers
from benchmarks.predict import add_predict_flags, predict
from benchmarks.reading import add_reading_flags, reading
from benchmarks.training_step import add_train_flags, train
from sam_med2d.runtime.cli import run_main

# name of the sub-command: (function, its flags)
BENCHMARKS = {
    "encoder": (encoder, add_encoder_flags),
    "decoder": (decoder, add_decoder_flags),
    "train": (train, add_train_flags),
    "evaluate": (evaluate, add_evaluate_flags),
    "reading": (reading, add_reading_flags),
    "predict": (predict, add_predict_flags),
    "peers": (peers, add_peers_flags),
    "adaptation": (adaptation, add_adaptation_flags),
    "prepare": (prepare, add_prepare_flags),
    "onnx": (onnx_files, add_onnx_flags),
}


def main(argv: list[str] | None = None) -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, (function, add_flags) in BENCHMARKS.items():
        command = commands.add_parser(name, help=function.__doc__.splitlines()[0])
        command.add_argument("--threads", type=int, default=2, help="CPU threads")
        add_flags(command)
    args = parser.parse_args(argv)
    args.given = sys.argv[1:] if argv is None else argv
    if code := run_main(_run, args):
        sys.exit(code)


def _run(args: argparse.Namespace) -> int:
    torch.set_num_threads(args.threads)
    print(json.dumps(BENCHMARKS[args.benchmark][0](args)))
    return 0


if __name__ == "__main__":
    main()
