"""Segment a photograph with exported models: numpy, opencv and onnxruntime, no PyTorch.

    python main.py --encoder_model encoder.onnx --decoder_model decoder.onnx
    python main.py ... --img_path eye.jpg --structure optic_disc
    python main.py ... --img_path eye.jpg --point 78 235 --point 20 20 0

Takes a second. Writes pictures to <work_dir>/ort_demo_results: <name>_point1.png (the first point), <name>_point2.png
(all points, with the first mask as prompt), <name>_box.png and <name>_<structure>.png. Without a prompt it shows a
point, two points and a box on the optic disc of the demo photograph.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from med2d_onnx import OnnxPredictor, read_photograph

DEMO = Path(__file__).resolve().parents[2] / "data_demo" / "images" / "retina.jpg"
DEMO_POINTS, DEMO_BOX = [[78, 235], [130, 235, 0]], [45, 198, 111, 273]
GREEN, RED, BLUE = (64, 200, 64), (230, 60, 60), (30, 144, 255)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder_model", required=True, help="encoder, made by export_onnx_encoder_model.py")
    parser.add_argument("--decoder_model", required=True, help="decoder, made by export_onnx_model.py")
    parser.add_argument("--img_path", type=Path, help="photograph; default: the demo's")
    parser.add_argument("--work_dir", type=Path, default=Path("workdir"), help="where results go")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    point = {"nargs": "+", "type": float, "action": "append", "metavar": "N"}
    parser.add_argument("--point", **point, help="x y, or x y 0 for background; pixels; may be repeated")
    parser.add_argument("--box", nargs=4, type=float, metavar=("X0", "Y0", "X1", "Y1"), help="pixels, half-open")
    parser.add_argument("--structure", nargs="+", default=[], metavar="NAME", help="structure prompt")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> list[Path]:
    """Segment the photograph, and write a picture for each prompt: their paths. ValueError or OSError: the input."""
    if args.img_path is None and not (args.point or args.box or args.structure):
        args.point, args.box = DEMO_POINTS, DEMO_BOX
    wrong = [point for point in args.point or [] if len(point) not in (2, 3)]
    if wrong:
        raise ValueError(f"--point {' '.join(f'{value:g}' for value in wrong[0])}: give x y, or x y and 1 or 0.")
    if not (args.point or args.box or args.structure):
        raise ValueError("No prompt: give --point, --box or --structure.")
    path = args.img_path or DEMO
    photograph = read_photograph(path)
    predictor = OnnxPredictor(args.encoder_model, args.decoder_model, args.device)
    predictor.set_image(photograph)
    pictures = draw_predictions(predictor, args, photograph)
    folder = args.work_dir / "ort_demo_results"
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / f"{path.stem}_{name}.png", picture) for name, picture in pictures.items()]


def draw_predictions(
    predictor: OnnxPredictor, args: argparse.Namespace, photograph: np.ndarray
) -> dict[str, np.ndarray]:
    """Predict the masks of all prompts, and draw them.

    Args:
        predictor: with the photograph set.
        args: the flags, with a prompt at least.
        photograph: RGB uint8 [H, W, 3].

    Returns:
        {name of the file: picture, RGB uint8 [H, W, 3]}.
    """
    pictures: dict[str, np.ndarray] = {}

    def predict(name: str, **prompt) -> np.ndarray:
        masks, iou, low_res = predictor.predict(**prompt)
        best = int(iou.argmax())
        print(f"{name}: {int(masks[best].sum())} pixels, predicted IoU {iou[best]:.2f}")
        pictures[name] = draw(photograph, masks[best], prompt)
        return low_res[best]

    if args.point:
        coords = np.array([point[:2] for point in args.point])
        labels = np.array([point[2] if len(point) == 3 else 1 for point in args.point])
        low_res = predict("point1", point_coords=coords[:1], point_labels=labels[:1])
        if len(coords) > 1:
            predict("point2", point_coords=coords, point_labels=labels, mask_input=low_res)
    if args.box:
        predict("box", box=np.array(args.box))
    for structure in args.structure:
        predict(structure, structure=structure)
    return pictures


def draw(photograph: np.ndarray, mask: np.ndarray, prompt: dict) -> np.ndarray:
    """Draw a mask and its prompt.

    Args:
        photograph: RGB uint8 [H, W, 3].
        mask: bool [H, W].
        prompt: with "box" (x0, y0, x1, y1), or "point_coords" [P, 2] (x, y) and "point_labels" [P], or neither.

    Returns:
        RGB uint8 [H, W, 3].
    """
    canvas = photograph.copy()
    canvas[mask] = (0.6 * canvas[mask] + 0.4 * np.array(BLUE)).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thick = max(1, round(max(mask.shape) / 400))
    cv2.drawContours(canvas, outlines, -1, BLUE, thick)
    if "box" in prompt:
        corners = np.round(prompt["box"]).astype(int).reshape(2, 2)
        cv2.rectangle(canvas, corners[0].tolist(), (corners[1] - 1).tolist(), GREEN, thick)
    for xy, label in zip(prompt.get("point_coords", ()), prompt.get("point_labels", ()), strict=True):
        centre = np.round(xy).astype(int).tolist()
        cv2.circle(canvas, centre, 4 * thick, GREEN if label else RED, cv2.FILLED)
        cv2.circle(canvas, centre, 4 * thick, (255, 255, 255), thick)
    return canvas


def _write(path: Path, picture: np.ndarray) -> Path:
    """Write a picture whole or not at all."""
    made, content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not made:
        raise ValueError(f"{path} cannot be written as PNG.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content.tobytes())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    print(path)
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 after one message about bad input."""
    try:
        run(parse_args(argv))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
