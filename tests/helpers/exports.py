"""Runs of the export scripts on tiny models."""

from pathlib import Path

from sam_med2d.runtime import cli
from scripts import export_onnx_encoder_model, export_onnx_model

SCRIPTS = {"encoder": export_onnx_encoder_model, "decoder": export_onnx_model}


def export(script: str, checkpoint: Path, output: Path, *flags: str) -> int:
    module = SCRIPTS[script]
    words = ["--sam_checkpoint", str(checkpoint), "--model-type", "vit_t", "--output", str(output), *flags]
    return cli.run_main(module.main, module.parse_args(words))
