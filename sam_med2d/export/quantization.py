"""Smaller files: half precision, and 8-bit integers for the products with large weight matrices."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from sam_med2d.export.onnx_files import ExportError, is_large, save
from sam_med2d.export.onnx_image_encoder import ONE_HOT
from sam_med2d.export.onnx_parts import Tensors

LEAST_ROWS = 64  # of a weight matrix [rows, columns]: smaller products gain nothing
# Sums of squares and positions' phases leave the range and the resolution of half precision; sizes count beyond 2048.
KEEP_FLOAT = ("Resize", "LayerNormalization", "ReduceMean", "ReduceSum", "Sqrt", "Sin", "Cos", "Round", "Floor")


def to_float16(source: Path, target: Path, metadata: dict) -> None:
    """Write a file with weights and sums in float16; its inputs and outputs stay float32.

    Args:
        source: the file in float32.
        target: the file to write.
        metadata: its metadata.
    """
    model = onnx.load(source)
    with _quietly():
        converted = convert_float_to_float16(
            model, keep_io_types=True, disable_shape_infer=is_large(source), op_block_list=list(KEEP_FLOAT)
        )
    save(converted, target, metadata | {"precision": "fp16"})


def quantize(source: Path, target: Path, metadata: dict, calibration: Iterable[Tensors] | None = None) -> None:
    """Write a file whose large products are of int8: weights by output channel, signed; activations unsigned.

    Activations are scaled as they come; with calibration inputs, once and for all, by the range seen in these. Signed
    weights with unsigned activations are what the 8-bit instructions of CPUs multiply: with unsigned weights too
    (onnxruntime's default) the product took twice as long.

    Args:
        source: the file in float32.
        target: the file to write.
        metadata: its metadata.
        calibration: inputs that fix the scales of the activations.

    Raises:
        ExportError: the file has no large product.
    """
    model = onnx.load(source, load_external_data=False)
    nodes = large_products(model)
    if not nodes:
        raise ExportError(f"{source.name} has no product with a weight matrix of {LEAST_ROWS} rows: not quantized.")
    made = target.with_name(f"raw_{target.name}")
    options = {
        "nodes_to_quantize": nodes,
        "op_types_to_quantize": ["MatMul"],
        "per_channel": True,
        "weight_type": QuantType.QInt8,
        "use_external_data_format": is_large(source),
    }
    with _quietly():
        if calibration is None:
            quantize_dynamic(source, made, extra_options={"MatMulConstBOnly": True}, **options)
        else:
            options |= {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8}
            quantize_static(source, made, _Reader(calibration), extra_options={"MatMulConstBOnly": True}, **options)
    save(onnx.load(made), target, metadata | {"precision": "int8"})


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the converters log: they recommend steps that have nothing to do here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def large_products(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that multiply activations with a large weight matrix."""
    large = {
        tensor.name
        for tensor in model.graph.initializer
        if len(tensor.dims) == 2 and tensor.dims[0] >= LEAST_ROWS and not tensor.name.endswith(ONE_HOT)
    }
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in large]


class _Reader(CalibrationDataReader):
    """Hands inputs to the calibration one after another."""

    def __init__(self, inputs: Iterable[Tensors]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> dict | None:
        named = next(self._inputs, None)
        return None if named is None else {name: value.cpu().numpy() for name, value in named.items()}
