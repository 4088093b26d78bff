"""Reading photographs: many small and some large ones, JPEG and PNG; and small JPEGs in DICOM files."""

import argparse
import io
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.reading_worker import PARTS
from benchmarks.sides import OTHER, OURS, REFERENCE, ROOT, Side, Worker, add_against, baseline
from sam_med2d.data.synthetic_fundus import synthetic_fundus
from sam_med2d.runtime.timing import interleaved

SMALL, LARGE = (512, 512), (4288, 2848)  # width, height
DRAWN = 4  # different photographs of a size; the others are these, turned up by some grey levels
WORKER = ROOT / "benchmarks" / "reading_worker.py"


def add_reading_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of "reading"."""
    parser.add_argument("--small", type=int, default=200, help="photographs of 512 x 512 pixels, of each format")
    parser.add_argument("--large", type=int, default=10, help="photographs of 4288 x 2848 pixels, of each format")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds; medians are reported")
    parser.add_argument(
        "--dicom", action="store_true", help="the small ones also as DICOM, beside the JPEG that is in it"
    )
    add_against(parser)


def reading(args: argparse.Namespace) -> dict[str, float]:
    """Compare the reading of photographs with OpenCV alone.

    Args:
        args: the flags.

    Returns:
        {"ratio_small_jpg", "ms_small_jpg", ...}: the baseline's time over ours, and ours for one photograph.
    """
    with tempfile.TemporaryDirectory() as name:
        folders = draw(Path(name), {"small": (SMALL, args.small), "large": (LARGE, args.large)})
        if args.dicom:
            folders["small_dcm"] = in_dicom(folders["small_jpg"])
        workers = {side: Worker(_worker(args, side, folders.values())) for side in (baseline(args), OURS)}
        found = {}
        for number, (what, folder) in enumerate(folders.items()):
            count = len(list(folder.iterdir()))
            ms = dict.fromkeys(workers, 0.0)
            for part in range(PARTS):
                ask = {side: lambda w=w, i=PARTS * number + part: w.ask(i) for side, w in workers.items()}
                ms = {side: ms[side] + value for side, value in interleaved(ask, args.rounds).items()}
            ratio = ms[baseline(args)] / ms[OURS]
            columns = "  ".join(f"{side} {value / count:7.2f} ms" for side, value in ms.items())
            print(f"{what:<10} {columns}  ratio {ratio:5.3f}")
            found |= {f"ratio_{what}": round(ratio, 3), f"ms_{what}": round(ms[OURS] / count, 3)}
        sums = [worker.finish()["sums"] for worker in workers.values()]
    print("the pixels are " + ("the same" if sums[0] == sums[1] else "NOT THE SAME"))
    return found


def _worker(args: argparse.Namespace, side: str, folders: object) -> Side:
    command = (sys.executable, "-P", str(WORKER), *map(str, folders), *["--reference"] * (side == REFERENCE))
    command += () if side == OURS else ("--jpeg",)
    return Side(command, args.against if side == OTHER else ROOT)


def draw(folder: Path, kinds: dict[str, tuple[tuple[int, int], int]]) -> dict[str, Path]:
    """Photographs of several sizes as JPEG and PNG.

    Args:
        folder: where their folders are made.
        kinds: (width, height) and number of the photographs of each kind.

    Returns:
        {"<kind>_jpg" and "<kind>_png": folder}.
    """
    folders: dict[str, Path] = {}
    for kind, (size, count) in kinds.items():
        for suffix in ("jpg", "png"):
            folders[f"{kind}_{suffix}"] = folder / f"{kind}_{suffix}"
            folders[f"{kind}_{suffix}"].mkdir()
        pictures = [_picture(size, seed) for seed in range(min(DRAWN, count))]
        for i in range(count):
            picture = cv2.add(pictures[i % DRAWN], (i // DRAWN,) * 3)
            for suffix in ("jpg", "png"):
                content = cv2.imencode(f".{suffix}", picture)[1].tobytes()
                (folders[f"{kind}_{suffix}"] / f"{i:04d}.{suffix}").write_bytes(content)
    return folders


def in_dicom(folder: Path) -> Path:
    """DICOM files in a folder small_dcm beside that of their JPEGs of 512 x 512 pixels."""
    from pydicom import Dataset, FileMetaDataset, dcmwrite, encaps, uid  # optional

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    data.SOPClassUID, data.SOPInstanceUID = uid.OphthalmicPhotography8BitImageStorage, uid.generate_uid()
    data.Modality, data.PatientName, data.StudyDate, data.Manufacturer = "OP", "Eye^One", "20240229", "Camera"
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "YBR_FULL_422", 0
    data.Columns, data.Rows = SMALL
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    target = folder.with_name("small_dcm")
    target.mkdir()
    for path in folder.iterdir():
        data.PixelData, file = encaps.encapsulate([path.read_bytes()]), io.BytesIO()
        data["PixelData"].VR = "OB"
        dcmwrite(file, data, enforce_file_format=True)
        (target / f"{path.stem}.dcm").write_bytes(file.getvalue())
    return target


def _picture(size: tuple[int, int], seed: int) -> np.ndarray:
    """A photograph (width, height) with grain, as a camera's; BGR."""
    drawn = synthetic_fundus(height=480, width=512, seed=seed)[0][..., ::-1]
    grain = np.random.default_rng(seed).integers(0, 6, (size[1], size[0], 1), np.uint8)
    return cv2.add(cv2.resize(drawn, size, interpolation=cv2.INTER_CUBIC), np.repeat(grain, 3, axis=2))
