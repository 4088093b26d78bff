"""`OnnxPredictor`: a photograph is encoded once, masks are predicted from its embedding; NumPy in, NumPy out.

Needs numpy, opencv and onnxruntime. How photographs are prepared and which structures are known is read from the files.
"""

import json
import os
from pathlib import Path
from typing import Any

# OpenCV reads this when it is loaded: a picture of 20,000 x 20,000 would take 1.2 GB before anything is done with it
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(10**8))

import cv2
import numpy as np
import onnxruntime
from med2d_frames import Placement, model_input, place, used_pixels

METADATA_KEY = "sam_med2d_fundus"
FORMAT_VERSION = 2
PLANES = b"\x1c\x01\x03\0\1\0\0\0\2\0", b"\1\x1c\0\3\0\0\0\1\0\2"  # of a TIFF: its colours lie apart
HOT = 2e-5  # share of values that may be those of hot pixels
STRUCTURE = 4  # point label of the first structure
PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}


class ModelFileError(ValueError):
    """A model file that cannot be used; the message names it and says what to do."""


def read_photograph(path: str | Path) -> np.ndarray:
    """Read a photograph; grey ones get three equal channels, 16-bit ones their upper 8 bits.

    Args:
        path: a JPEG, PNG, BMP or TIFF. What can be meant in more than one way is refused; the project's own
            `sam_med2d.data.image_io.read_image` and scripts/prepare_dataset.py read more.

    Returns:
        RGB uint8 [H, W, 3], upright.

    Raises:
        ValueError: names the file.
    """
    try:
        data = np.fromfile(path, np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except (OSError, cv2.error) as error:
        raise ValueError(
            f"{path} cannot be read: check the path, and that it is a whole picture of at most 100 million pixels "
            "(OPENCV_IO_MAX_IMAGE_PIXELS sets another limit)."
        ) from error
    if pixels is None:
        raise ValueError(f"{path} is not a picture that OpenCV reads: convert it to PNG or JPEG.")
    if seen := _unclear(data, pixels):
        raise ValueError(f"{path} {seen}: convert it to a JPEG or PNG of 8 bits, without alpha.")
    return as_rgb(pixels, "BGR")


def _unclear(data: np.ndarray, pixels: np.ndarray) -> str:
    """What a file of these bytes has that OpenCV reads wrong or in part; empty for most files."""
    start = data[: 1 << 17].tobytes()
    if start.startswith(b"\xff\xd8"):
        return "holds several pictures" if b"MPF\0" in start else ""
    if not start.startswith((b"\x89PNG", b"BM", b"II*\0", b"MM\0*")):
        return "is no JPEG, PNG, BMP or TIFF"
    tiff, chunks = start[:2] in (b"II", b"MM"), start.partition(b"IDAT")[0]
    if (tiff and cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED, range=(1, 2))[0]) or b"acTL" in chunks:
        return "holds several pages or frames"
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if tiff and stored.ndim == 2:
        return "is a TIFF without colours, which may have alpha"
    if tiff and stored.itemsize > 1 and any(entry in data.tobytes() for entry in PLANES):
        return "is a TIFF with a plane for each colour"
    if (stored.ndim == 3 and stored.shape[2] == 4 and stored[..., 3].min() < np.iinfo(stored.dtype).max) or (
        b"tRNS" in chunks and start.startswith(b"\x89PNG")
    ):
        return "has transparent pixels, or a fourth channel"
    if pixels.dtype not in (np.uint8, np.uint16):
        return f"holds {pixels.dtype}"
    return _dark(pixels)


def _dark(pixels: np.ndarray) -> str:
    """What speaks against 16 bits in pixels of this depth, as of 10 to 14 bits; empty for others."""
    bright = pixels >= 1 << 14
    if pixels.dtype != np.uint16 or bright.sum() > max(1, HOT * pixels.size) or not pixels.any():
        return ""
    return f"has a brightest value of {pixels[~bright].max()}, as with less than 16 bits"


def _open_model(
    path: str | Path, part: str, device: str = "cpu"
) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    """Open a model file for "cpu" or "cuda": the model, ready to run, and what it says of itself.

    Raises:
        ModelFileError: for a file that cannot be used, or that is not this part, "encoder" or "decoder".
    """
    if device not in PROVIDERS:
        raise ModelFileError(f"device {device!r} is unknown: use cpu or cuda.")
    if PROVIDERS[device][0] not in onnxruntime.get_available_providers():
        raise ModelFileError(f"device {device}: this onnxruntime has no support for it: install onnxruntime-gpu.")
    if not Path(path).is_file():
        raise ModelFileError(f"{part} model {path} does not exist: check the path.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is said by the error that is raised
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS[device])
    except Exception as error:  # its exceptions have no common class of their own
        reason = str(error).splitlines()[0]
        raise ModelFileError(f"{path} cannot be loaded ({reason}): copy it again, with its .data file.") from error
    about = json.loads(session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "{}"))
    if not about:
        raise ModelFileError(f"{path} does not say how it was made: export it with scripts/export_onnx_*.py.")
    if about.get("plain"):
        raise ModelFileError(f"{path} is in SAM's form, for other programs: export both files without --plain.")
    if about["format_version"] > FORMAT_VERSION:
        raise ModelFileError(f"{path} was made by a newer version: take this folder from there, too.")
    if about["part"] != part:
        raise ModelFileError(f"{path} is {_a(about['part'])}, where the {part} is asked for: exchange the two files.")
    return session, about


def _a(part: str) -> str:
    """The word with its article."""
    return f"an {part}" if part[0] in "aeiou" else f"a {part}"


class OnnxPredictor:
    """Predicts masks of points, boxes and structure prompts, for one photograph after another."""

    def __init__(self, encoder_model: str | Path, decoder_model: str | Path, device: str = "cpu") -> None:
        """Open the two files.

        Args:
            encoder_model: made by scripts/export_onnx_encoder_model.py.
            decoder_model: made by scripts/export_onnx_model.py.
            device: "cpu" or "cuda".

        Raises:
            ModelFileError: for a file that cannot be used, or two that do not belong together.
        """
        self.encoder, self.about = _open_model(encoder_model, "encoder", device)
        self.decoder, decoder = _open_model(decoder_model, "decoder", device)
        if self.about["image_size"] != decoder["image_size"]:
            sizes = f"{self.about['image_size']} and {decoder['image_size']} px"
            raise ModelFileError(f"{encoder_model} and {decoder_model} are for {sizes}: export both with one size.")
        if self.about["weights"] != decoder["weights"]:
            raise ModelFileError(f"{encoder_model} and {decoder_model} have different weights: export both from one.")
        batch = self.encoder.get_inputs()[0].shape[0]
        if not self.about["use_preprocess"] and isinstance(batch, int) and batch != 1:
            raise ModelFileError(f"{encoder_model} takes {batch} pictures at a time: export it without --batch_size.")
        if decoder["geometry"] != self.about["preprocessing"]["mode"]:
            raise ModelFileError(f"{decoder_model} returns masks by another geometry: export without --resize-longest.")
        self.size: int = self.about["image_size"]
        self.structures: list[str] = self.about["structures"]
        self.reset_image()

    def reset_image(self) -> None:
        """Forget the photograph."""
        self.where: Placement | None = None
        self.embedding: dict[str, np.ndarray] = {}

    def set_image(self, photograph: np.ndarray, image_format: str = "RGB") -> None:
        """Encode a photograph.

        Args:
            photograph: uint8 or uint16, [H, W, 3] or grey [H, W].
            image_format: order of the channels, "RGB" or "BGR".

        Raises:
            ValueError: for another type or shape.
        """
        rgb = as_rgb(photograph, image_format)
        rule = self.about["preprocessing"]
        where = place(rgb, self.size, rule["mode"])
        if self.about["use_preprocess"]:
            pixels = used_pixels(rgb, where, rule["channel_order"]).astype(np.float32)
        else:
            pixels = model_input(rgb, where, rule["mode"], rule["channel_order"], rule.get("pixel_scale", "sam"))
        names = [output.name for output in self.encoder.get_outputs()]
        self.embedding = dict(zip(names, self.encoder.run(None, {"input_image": pixels}), strict=True))
        self.where = where

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        structure: str | None = None,
        mask_input: np.ndarray | None = None,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict the masks of one prompt: points, a box, a structure prompt, or several of them together.

        Args:
            point_coords: [P, 2], x, y in pixels of the photograph.
            point_labels: [P], 1 foreground, 0 background.
            box: x0, y0, x1, y1 in pixels of the photograph, half-open.
            structure: name of a structure that the weights know.
            mask_input: one of the low-resolution logits of an earlier call, [S/4, S/4].
            return_logits: logits instead of masks.

        Returns:
            Masks [M, H, W], bool, or float32 logits; predicted IoU [M]; low-resolution logits [M, S/4, S/4]. A
            structure that is predicted absent has empty masks.

        Raises:
            ValueError: for prompts that cannot be.
            RuntimeError: without a photograph.
        """
        if self.where is None:
            raise RuntimeError("No photograph is set: call set_image first.")
        coords, labels = self._prompt(point_coords, point_labels, box, structure)
        inputs = {
            **self.embedding,
            "point_coords": coords[None].astype(np.float32),
            "point_labels": labels[None].astype(np.float32),
            **self._mask_prompt(mask_input),
            "orig_im_size": np.array(self.where.used_shape, np.float32),
        }
        names = [output.name for output in self.decoder.get_outputs()]
        found = dict(zip(names, self.decoder.run(None, inputs), strict=True))
        logits = self.where.paste(found["masks"][0])
        return logits if return_logits else logits > 0, found["iou_predictions"][0], found["low_res_masks"][0]

    def predict_structure(self, structure: str) -> tuple[np.ndarray, float]:
        """The mask of a structure prompt: bool [H, W], empty where it is predicted absent, and its predicted IoU.

        Raises:
            ValueError: for a structure that the weights do not know.
            RuntimeError: without a photograph.
        """
        masks, iou, _ = self.predict(structure=structure)
        best = int(iou.argmax())
        return masks[best], float(iou[best])

    def _prompt(self, coords: Any, labels: Any, box: Any, structure: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Labelled positions [P, 2] and [P] in the model frame, with the padding point where there is no box."""
        if (coords is None) != (labels is None):
            raise ValueError("point_coords and point_labels go together: give both or none.")
        xy, kinds = [np.zeros((0, 2))], [np.zeros(0)]
        if coords is not None:
            points, marks = _shaped("point_coords", coords, (-1, 2)), _shaped("point_labels", labels, (-1,))
            if len(points) != len(marks) or not np.isin(marks, (-1, 0, 1)).all():
                raise ValueError(f"point_labels {marks.tolist()}: give 1 or 0 for each of the {len(points)} points.")
            self._require_inside(points[marks >= 0], "point")
            xy.append(self.where.points(points))
            kinds.append(marks)
        if structure is not None:
            if structure not in self.structures:
                known = ", ".join(self.structures) or "none"
                raise ValueError(f"structure {structure!r} is unknown to these weights (they know {known}).")
            xy.append(np.zeros((1, 2)))
            kinds.append(np.array([STRUCTURE + self.structures.index(structure)]))
        if box is not None:
            corners = _shaped("box", box, (4,)).reshape(2, 2)
            self._require_inside(corners, "box corner", edge=1)
            if not (corners[0] < corners[1]).all():
                raise ValueError(
                    f"box {_words(corners)}: give x0 y0 x1 y1 with x0 < x1 and y0 < y1; if these are x, y, width and "
                    f"height: {_words([corners[0], corners.sum(axis=0)])}."
                )
            xy.append(self.where.edges(corners))
            kinds.append(np.array([2, 3]))
        elif any(map(len, kinds)):
            xy.append(np.zeros((1, 2)))
            kinds.append(np.array([-1]))
        if not any(map(len, kinds)):
            raise ValueError("No prompt: give points with labels, a box, or the name of a structure.")
        return np.concatenate(xy), np.concatenate(kinds)

    def _require_inside(self, xy: np.ndarray, what: str, edge: int = 0) -> None:
        """Raise ValueError for a position [N, 2] outside the photograph, and for those that look like shares of it."""
        height, width = self.where.shape
        if ((xy >= 0) & (xy <= 1)).all() and ((xy % 1).any() or (edge and max(height, width) > 1)):
            raise ValueError(f"{what} {_words(xy)}: these look like shares of the photograph, give pixels.")
        outside = ~((xy >= 0) & (xy <= np.array([width, height]) - 1 + edge)).all(axis=1)
        if outside.any():
            raise ValueError(
                f"{what} {_words(xy[outside][0])} lies outside the photograph ({width} x {height} pixels)."
            )

    def _mask_prompt(self, logits: np.ndarray | None) -> dict[str, np.ndarray]:
        """The decoder's inputs for an earlier mask, or for none."""
        side = self.size // 4
        if logits is None:
            return {"mask_input": np.zeros((1, 1, side, side), np.float32), "has_mask_input": np.zeros(1, np.float32)}
        prompt = _shaped("mask_input", logits, (side, side)).astype(np.float32)[None, None]
        if self.about["preprocessing"]["mask_prompt"] == "probability":
            prompt = 1 / (1 + np.exp(-prompt))
        return {"mask_input": prompt, "has_mask_input": np.ones(1, np.float32)}


def as_rgb(photograph: np.ndarray, image_format: str = "RGB") -> np.ndarray:
    """A photograph in one form.

    Args:
        photograph: uint8 or uint16, [H, W, 3] or grey [H, W].
        image_format: order of the channels, "RGB" or "BGR".

    Returns:
        RGB uint8 [H, W, 3].

    Raises:
        ValueError: for another type or shape.
    """
    if image_format not in ("RGB", "BGR"):
        raise ValueError(f"image_format={image_format!r} is unknown: use 'RGB' or 'BGR'.")
    array = np.asarray(photograph)
    grey = array.ndim == 2
    fits = array.size and (grey or (array.ndim == 3 and array.shape[2] == 3))
    if array.dtype not in (np.uint8, np.uint16) or not fits:
        kind = f"{array.dtype} {list(array.shape)}"
        raise ValueError(f"The photograph is {kind}: give uint8 or uint16, [H, W, 3] or [H, W], not empty.")
    if seen := _dark(array):
        raise ValueError(f"The photograph {seen}: scale it to 8 bits.")
    array = (array >> 8).astype(np.uint8) if array.dtype == np.uint16 else array
    array = np.repeat(array[..., None], 3, axis=2) if grey else array
    return np.ascontiguousarray(array if image_format == "RGB" else array[..., ::-1])


def _words(numbers: Any) -> str:
    return " ".join(f"{value:g}" for value in np.ravel(numbers))


def _shaped(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """`value` as float64 of this shape, where -1 fits any length. Raises ValueError where it has other sides."""
    array = np.asarray(value, np.float64)
    try:
        return array.reshape(shape)
    except ValueError as error:
        wanted = str(list(shape)).replace("-1", "P")
        raise ValueError(f"{name} has shape {list(array.shape)}: give {wanted}.") from error
