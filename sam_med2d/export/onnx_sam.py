"""Models of which one part is an ONNX file: what is evaluated in place of the PyTorch model."""

import onnxruntime
import torch
from torch import Tensor

from sam_med2d.export.onnx_files import run_session
from sam_med2d.export.onnx_parts import OnnxPart
from segment_anything.modeling import Sam
from segment_anything.modeling.mask_decoder import Decoded
from segment_anything.modeling.sam import SharedSam


class OnnxEncoderSam(SharedSam):
    """The image encoder is a file, see `OnnxEncoder`."""

    def __init__(self, model: Sam, file: onnxruntime.InferenceSession) -> None:
        super().__init__(model)
        self.file = file

    def encode_all(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """`Sam.encode_all` by the file."""
        found = run_session(self.file, {"input_image": image})
        return found["image_embeddings"], found.get("detail_features")


class OnnxDecoderSam(SharedSam):
    """Prompt encoder and mask decoder are a file that returns the candidates, see `SamOnnxModel`."""

    def __init__(self, model: Sam, file: onnxruntime.InferenceSession) -> None:
        super().__init__(model)
        self.file = file

    def decode_points(
        self,
        embedding: Tensor,
        coords: Tensor,
        labels: Tensor,
        masks: Tensor | None = None,
        *,
        multimask: bool | None = True,
        features: Tensor | None = None,
        image_index: Tensor | None = None,
    ) -> Decoded:
        """`Sam.decode_points` by the file; absent structures are withheld already, `multimask` is the file's own."""
        size, side = self.image_size, self.prompt_encoder.mask_size
        if image_index is not None:
            embedding, features = embedding[image_index], None if features is None else features[image_index]
        inputs = {
            "image_embeddings": embedding,
            "point_coords": coords.float(),
            "point_labels": labels.float(),
            "mask_input": torch.zeros(1, 1, side, side) if masks is None else masks.float(),
            "has_mask_input": torch.zeros(1) if masks is None else torch.ones(len(masks)),
            "orig_im_size": torch.tensor([size, size]).float(),
        }
        found = run_session(self.file, inputs | ({} if features is None else {"detail_features": features}))
        logits = found["low_res_masks"] if features is None else found["masks"]
        return Decoded(logits, found["iou_predictions"], None)


def with_file(model: Sam, part: OnnxPart, file: onnxruntime.InferenceSession) -> Sam:
    """The model with its encoder, or its decoder, replaced by a file.

    Args:
        model: the PyTorch model, which is not changed.
        part: "encoder" or "decoder" by its name.
        file: of the part. A decoder must return the candidates.

    Returns:
        What answers as `Sam` does.
    """
    return (OnnxEncoderSam if part.name == "encoder" else OnnxDecoderSam)(model, file)
