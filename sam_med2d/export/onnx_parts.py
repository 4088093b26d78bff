"""The two files of a model: their module, their names, and inputs with the PyTorch model's outputs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam_med2d.export.onnx_modules import OnnxEncoder
from sam_med2d.export.onnx_plain import PlainDecoder, PlainEncoder, enlargement, pack, plain_metadata
from segment_anything.modeling import Sam
from segment_anything.modeling.prompt_encoder import BOX_TOP_LEFT, PADDING, STRUCTURE
from segment_anything.preprocessing import Frame, normalise, to_tensor
from segment_anything.utils.onnx import LONGEST_SIDE, STRETCH, SamOnnxModel

Tensors = dict[str, Tensor]  # by the names of a file's inputs or outputs
Check = tuple[Tensors, Tensors]  # inputs of a file, and the outputs that it must have
COUNTS = {"areas": 1e-3, "stability_scores": 1e-3}  # shares of pixels that may lie on the other side of a threshold
TOLERANCE = 1e-3  # of logits and embeddings, as a share of their range; sound weights stay below 1e-5, most of them
IOU_TOLERANCE = 1e-3  # of predicted IoU


@dataclass(frozen=True)
class OnnxPart:
    """What becomes one ONNX file."""

    name: str  # "encoder" or "decoder"
    module: nn.Module  # that is traced
    example: Tensors  # inputs to trace it with
    outputs: tuple[str, ...]  # names
    dynamic: dict[str, dict[int, str]]  # {name of an input or output: {dimension: its name}}
    checks: Callable[[], Iterator[Check]]  # fresh inputs of other counts, with PyTorch's outputs
    about: dict[str, Any]  # entries of the file's metadata

    def with_expected_outputs(self) -> "OnnxPart":
        """The part with the PyTorch model's outputs at hand: its checks need the model no more."""
        checks = list(self.checks())
        return replace(self, checks=lambda: iter(checks))


def encoder_part(model: Sam, *, batch: int | None = 1, use_preprocess: bool = False, plain: bool = False) -> OnnxPart:
    """`input_image` -> `image_embeddings`, and `detail_features` with a detail head.

    Args:
        model: whose encoder it is.
        batch: images at a time, None for any number.
        use_preprocess: the input is one photograph [H, W, 3], in pixels.
        plain: in SAM's own form, see `PlainEncoder`; without `detail_features`.

    Returns:
        The part.
    """
    if plain:
        return _plain_encoder_part(model, batch)
    size = model.image_size
    outputs = ("image_embeddings",) if model.mask_decoder.detail is None else ("image_embeddings", "detail_features")
    if use_preprocess:
        shape, dynamic = (size + 40, size + 20, 3), {"input_image": {0: "height", 1: "width"}}
    else:
        shape = (batch or 2, 3, size, size)
        dynamic = {name: {0: "batch"} for name in ("input_image", *outputs)} if batch is None else {}
    return OnnxPart(
        name="encoder",
        module=OnnxEncoder(model, use_preprocess=use_preprocess).eval(),
        example={"input_image": torch.zeros(shape, device=model.device)},
        outputs=outputs,
        dynamic=dynamic,
        checks=lambda: _encoder_checks(model, outputs, batch, use_preprocess),
        about={"use_preprocess": use_preprocess},
    )


def _plain_encoder_part(model: Sam, batch: int | None) -> OnnxPart:
    side = enlargement(model) * model.image_size
    names = ("input_image", "image_embeddings")
    return OnnxPart(
        name="encoder",
        module=PlainEncoder(model).eval(),
        example={"input_image": torch.zeros((batch or 2, 3, side, side), device=model.device)},
        outputs=names[1:],
        dynamic={name: {0: "batch"} for name in names} if batch is None else {},
        checks=lambda: (_plain_encoder_check(model, count) for count in ((batch,) if batch else (1, 3))),
        about={"use_preprocess": False} | plain_metadata(model),
    )


def _plain_encoder_check(model: Sam, count: int) -> Check:
    """Pictures in SAM's form, and what the model says of the same pictures in its own form, by NumPy."""
    rule, factor = model.preprocessing, enlargement(model)
    side = factor * model.image_size
    pictures = [synthetic_picture(side, side, seed) for seed in range(1, count + 1)]
    small = [picture.reshape(side // factor, factor, side // factor, factor, 3).mean((1, 3)) for picture in pictures]
    own = [normalise(p if rule.channel_order == "rgb" else p[..., ::-1], rule.pixel_scale) for p in small]
    given, wanted = (
        torch.stack([to_tensor(pixels.transpose(2, 0, 1), model.device) for pixels in form])
        for form in ([normalise(picture) for picture in pictures], own)
    )
    found = list(_embedded(model, wanted, ("image_embeddings", "detail_features")).values())
    return {"input_image": given}, {"image_embeddings": found[0] if found[1] is None else pack(*found, factor)}


def synthetic_picture(height: int, width: int, seed: int) -> np.ndarray:
    """A bright picture with structure at several scales, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells in (3, 12, 48):
        noise = torch.from_numpy(rng.normal(size=(1, 3, cells, cells)))
        total += F.interpolate(noise, (height, width), mode="bilinear", align_corners=True)[0].permute(1, 2, 0).numpy()
    return np.clip(140 + 30 * total, 60, 255).astype(np.uint8)


def images(model: Sam, count: int, seed: int = 1) -> Tensor:
    """Model input made from synthetic pictures.

    Args:
        model: whose preprocessing is used.
        count: of pictures.
        seed: of the first one.

    Returns:
        [count, 3, S, S].
    """
    size, rule = model.image_size, model.preprocessing
    pictures = [synthetic_picture(size, size, seed + i) for i in range(count)]
    return torch.stack([to_tensor(rule.image(p, rule.frame(p)), model.device) for p in pictures])


def _encoder_checks(model: Sam, outputs: tuple[str, ...], batch: int | None, use_preprocess: bool) -> Iterator[Check]:
    size = model.image_size
    if use_preprocess:
        preprocess = OnnxEncoder(model, use_preprocess=True).preprocess
        for seed, shape in enumerate([(size // 2, size // 2 - 9), (size + 70, 2 * size + 33), (size, size)]):
            pixels = to_tensor(synthetic_picture(*shape, seed), model.device).float()
            yield {"input_image": pixels}, _embedded(model, preprocess.to(model.device)(pixels), outputs)
    else:
        for count in (batch,) if batch else (1, 3):
            image = images(model, count)
            yield {"input_image": image}, _embedded(model, image, outputs)


@torch.no_grad()
def _embedded(model: Sam, image: Tensor, outputs: tuple[str, ...]) -> Tensors:
    return dict(zip(outputs, model.encode_all(image), strict=False))


def decoder_part(
    model: Sam,
    *,
    multimask: bool = True,
    resize_longest_img_size: bool = False,
    plain: bool = False,
    **options: bool,
) -> OnnxPart:
    """Embeddings and prompts -> masks.

    Args:
        model: whose prompt encoder and mask decoder they are.
        multimask: its candidates were trained.
        resize_longest_img_size: masks return by SAM's geometry.
        plain: in SAM's own form, see `PlainDecoder`.
        options: others of SamOnnxModel.

    Returns:
        The part.
    """
    options |= {"multimask": multimask, "resize_logest_img_size": resize_longest_img_size}
    module = (PlainDecoder if plain else SamOnnxModel)(model, **options).eval()
    extra = ("stability_scores", "areas") if module.return_extra_metrics else ()
    outputs = ("masks", "iou_predictions", *extra, "low_res_masks")
    encoded = encoded_inputs(model, images(model, 1, seed=0))
    example = {"image_embeddings": encoded.pop("image_embeddings")}
    example |= _prompts(model, prompts=2, points=3, seed=0) | encoded
    example = _in_plain_form(model, example) if plain else example
    dynamic: dict[str, dict[int, str]] = {
        "image_embeddings": {0: "num_images"},
        "point_coords": {0: "num_prompts", 1: "num_points"},
        "point_labels": {0: "num_prompts", 1: "num_points"},
        "mask_input": {0: "num_masks"},
        "has_mask_input": {0: "num_masks"},
        "detail_features": {0: "num_images"},
    }
    dynamic = {name: axes for name, axes in dynamic.items() if name in example}
    dynamic |= {name: {0: "num_prompts"} for name in outputs}
    dynamic["masks"] |= {2: "height", 3: "width"}
    about = {"masks": "single" if module.return_single_mask else "candidates", "geometry": module.mode}
    about |= plain_metadata(model) if plain else {}
    return OnnxPart("decoder", module, example, outputs, dynamic, lambda: _decoder_checks(module), about)


def _prompts(
    model: Sam, *, prompts: int, points: int, seed: int, masks: int = 1, given: float = 0.0, original=(200, 180)
) -> Tensors:
    """Random prompts in the decoder's input form; with structures the first one is a structure prompt."""
    generator, device = torch.Generator().manual_seed(seed), model.device
    labels = torch.randint(0, 2, (prompts, points), generator=generator).float()
    if points >= 2:
        labels[-1, :2] = torch.tensor([2.0, 3.0])
    labels[0, -1] = -1.0 if points > 1 else 1.0
    if model.prompt_encoder.structures:
        labels[0], labels[0, 0] = -1.0, STRUCTURE
    side = model.prompt_encoder.mask_size
    named = {
        "point_coords": model.image_size * torch.rand(prompts, points, 2, generator=generator),
        "point_labels": labels,
        "mask_input": torch.rand(masks, 1, side, side, generator=generator),
        "has_mask_input": torch.full((masks,), given),
        "orig_im_size": torch.tensor(original).float(),
    }
    return {name: value.to(device) for name, value in named.items()}


@torch.no_grad()
def encoded_inputs(model: Sam, image: Tensor) -> Tensors:
    """What the decoder's file takes of images.

    Args:
        model: that encodes.
        image: normalised, [B, 3, S, S].

    Returns:
        "image_embeddings", and for a detail head "detail_features".
    """
    embedding, features = model.encode_all(image)
    return {"image_embeddings": embedding} | ({} if features is None else {"detail_features": features})


def _decoder_checks(module: SamOnnxModel) -> Iterator[Check]:
    """Counts of prompts and points, mask prompts and sizes of photographs that the trace has not seen."""
    model, size = module.model, module.model.image_size
    encoded = encoded_inputs(model, images(model, 3))
    one = {name: value[:1] for name, value in encoded.items()}
    for images_, prompts in (
        (one, {"prompts": 1, "points": 1, "original": (size, size)}),
        (one, {"prompts": 4, "points": 7, "original": (2 * size + 9, 3 * size + 1)}),
        (encoded, {"prompts": 3, "points": 2, "masks": 3, "given": 1.0, "original": (size // 2 + 1, size // 3)}),
        (one, {"prompts": 2, "points": 5, "given": 1.0, "original": (size, size // 2)}),
    ):
        inputs = images_ | _prompts(model, seed=2, **prompts)
        plain = isinstance(module, PlainDecoder)
        yield _plain_decoder_check(module, inputs) if plain else (inputs, _expected_outputs(module, **inputs))


def _plain_decoder_check(module: PlainDecoder, inputs: Tensors) -> Check:
    """Inputs in SAM's form, and the outputs for the same prompts in the model's own, with their padding point."""
    own, model = dict(inputs), module.model
    if not ((inputs["point_labels"] == PADDING) | (inputs["point_labels"] == BOX_TOP_LEFT)).any():
        points = model.prompt_encoder.as_points((own["point_coords"], own["point_labels"]), None)
        own |= dict(zip(("point_coords", "point_labels"), points, strict=True))
    expected = _expected_outputs(module, **own)
    low_res = F.interpolate(expected["low_res_masks"], scale_factor=float(module.factor))
    return _in_plain_form(model, inputs), expected | {"low_res_masks": low_res}


def _in_plain_form(model: Sam, inputs: Tensors) -> Tensors:
    """Inputs of `SamOnnxModel` as those of `PlainDecoder`."""
    given, factor = dict(inputs), enlargement(model)
    if (features := given.pop("detail_features", None)) is not None:
        given["image_embeddings"] = pack(given["image_embeddings"], features, factor)
    mask = given["mask_input"]
    mask = mask.logit(1e-6) if model.preprocessing.mask_prompt == "probability" else mask
    return given | {
        "point_coords": factor * given["point_coords"],
        "mask_input": F.interpolate(mask, scale_factor=float(factor)),
    }


@torch.no_grad()
def _expected_outputs(
    module: SamOnnxModel,
    *,
    image_embeddings: Tensor,
    point_coords: Tensor,
    point_labels: Tensor,
    mask_input: Tensor,
    has_mask_input: Tensor,
    orig_im_size: Tensor,
    detail_features: Tensor | None = None,
) -> Tensors:
    """The outputs of the PyTorch model: its own decoding, and the exact inverse of its preprocessing."""
    model = module.model
    masks = mask_input.expand(len(point_coords), -1, -1, -1) if bool(has_mask_input.all()) else None
    logits, iou, presence = model.decode_points(
        image_embeddings, point_coords, point_labels, masks, multimask=module.multimask, features=detail_features
    )
    logits = model.withhold_absent(logits, presence, point_labels)
    if module.return_single_mask:
        rows, best = torch.arange(len(iou)), iou.argmax(1)
        logits, iou = logits[rows, best][:, None], iou[rows, best][:, None]
    height, width = (int(side) for side in orig_im_size)
    if module.mode == LONGEST_SIDE:
        scale = model.image_size / max(height, width)
        whole = model.postprocess_masks(logits, (int(height * scale + 0.5), int(width * scale + 0.5)), (height, width))
    elif module.mode == STRETCH:
        side = model.image_size
        whole = Frame(side, (height, width), (0, 0, height, width), (0, 0, side, side)).logits_to_original(logits)
    else:
        whole = model.preprocessing.frame(np.full((height, width, 3), 200, np.uint8)).logits_to_original(logits)
    low_res = F.adaptive_avg_pool2d(logits, model.prompt_encoder.mask_size)
    found = {"masks": whole, "iou_predictions": iou, "low_res_masks": low_res}
    if module.use_stability_score:
        found["iou_predictions"] = _stability(logits)
    if module.return_extra_metrics:
        found |= {"stability_scores": _stability(whole), "areas": (whole > 0).sum((2, 3)).float()}
    return found


def _stability(logits: Tensor) -> Tensor:
    least, most = ((logits > level).sum((2, 3)) for level in (1, -1))
    return torch.where(most > 0, least / most.clamp(min=1), 0.0)
