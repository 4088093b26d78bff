"""--classes of a map of classes: values, ranges, colours, palettes, CVAT's file, and what was not annotated."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.formats.class_list import LabelNames, parse_classes
from sam_med2d.dataset_conversion.formats.labelmap import LABELMAP
from sam_med2d.dataset_conversion.mask_readers import voc_palette
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError
from sam_med2d.notes import REMARKS
from scripts import prepare_dataset
from tests.helpers.cases import check_all
from tests.helpers.commands import run_command

SIZE = (24, 32)
CVAT = """# label:color_rgb:parts:actions
background:0,0,0::
Optic Disc:250,50,83::
cup:36,179,83:rim,centre:
void:1,2,3::
"""


def labels() -> np.ndarray:
    """0 around, 1 in a square, 2 in it, 3 in a corner."""
    values = np.zeros(SIZE, np.uint8)
    values[4:20, 4:20], values[8:12, 8:12], values[:3, :3] = 1, 2, 3
    return values


def coloured(*colours: tuple[int, int, int]) -> np.ndarray:
    """The labels in colours."""
    return np.array(colours, np.uint8)[labels()]


def read(folder: Path, pixels: np.ndarray | Image.Image, classes: str, name: str = "1.png") -> dict[str, np.ndarray]:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "images/1.jpg"), np.full((*SIZE, 3), 90, np.uint8))
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(folder / "masks" / name)
    [sample] = LABELMAP.find(Tree(folder), Choice(options={"classes": classes})).samples
    return {source.structure: source.decode(source.path, SIZE) for source in sample.masks}


def palette() -> Image.Image:
    picture = Image.fromarray(labels(), "P")
    picture.putpalette(
        [channel for code in voc_palette().tolist() for channel in (code >> 16, code >> 8 & 255, code & 255)]
    )
    return picture


VOC = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
DISC_CUP = {"disc": (1, 2), "cup": (2,)}
WAYS: dict[str, tuple[Any, str, dict[str, tuple[int, ...]]]] = {
    "values": (labels(), "1+2=disc,2=cup,3=void", DISC_CUP),
    "a range": (labels(), "1-2=disc,2=cup,3=ignore", DISC_CUP),
    "a range of instances": (labels(), "1-200=lesion", {"lesion": (1, 2, 3)}),
    "values and ranges": (labels(), "0+2-3=rest,1=x", {"rest": (0, 2, 3), "x": (1,)}),
    "16 bits": (labels().astype(np.uint16) * 300, "300+600=disc,600=cup,900=ignored", DISC_CUP),
    "floats": (labels().astype(np.float32), "1+2=disc,2=cup,3=void", DISC_CUP),
    "colours": (
        coloured((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)),
        "#ff0000+#00FF00=disc, #00ff00=cup, #0000ff=void",
        DISC_CUP,
    ),
    "a coloured background": (
        coloured((255, 255, 255), (255, 0, 0), (0, 0, 0), (0, 0, 255)),
        "#ffffff=background,#ff0000=a,#0000ff=b",
        {"a": (1,), "b": (3,)},
    ),
    "grey as colours": (labels() * 60, "#3c3c3c=a,#787878=b,#b4b4b4=void", {"a": (1,), "b": (2,)}),
    "a palette's indices": (palette(), "1+2=disc,2=cup,3=void", DISC_CUP),
    "a palette's colours": (palette(), "#800000+#008000=disc,#008000=cup,#808000=void", DISC_CUP),
    "Pascal VOC in RGB": (coloured(*VOC), "1+2=disc,2=cup,3=void", DISC_CUP),
    "CVAT": (
        coloured((0, 0, 0), (250, 50, 83), (36, 179, 83), (1, 2, 3)),
        "labelmap.txt",
        {"optic_disc": (1,), "cup": (2,)},
    ),
}


def test_classes_in_every_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labelmap.txt").write_text(CVAT)

    def check(name: str) -> None:
        pixels, classes, expected = WAYS[name]
        kind = "1.tif" if isinstance(pixels, np.ndarray) and pixels.dtype == np.float32 else "1.png"
        masks = read(tmp_path / name.replace(" ", "_"), pixels, classes, kind)
        assert list(masks) == list(expected)
        for structure, values in expected.items():
            assert np.array_equal(masks[structure], np.isin(labels(), values)), structure

    check_all(check, [(name,) for name in WAYS])


def test_void_is_background_and_its_pixels_are_noted(tmp_path):
    REMARKS.forget()
    with REMARKS.collected():
        read(tmp_path, labels(), "1+2=disc,3=void")
        assert REMARKS.take() == {"void pixels are background": {str(tmp_path / "masks/1.png"): "9 pixels"}}
        read(tmp_path, np.minimum(labels(), 2), "1+2=disc,3=void")
        assert not REMARKS.take()


def test_values_and_colours_of_no_class_are_named_with_their_pixels(tmp_path):
    many = np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE)
    cases = {
        "value": (labels(), "1=disc", r"value\(s\) 2, 3; its classes are 0, 1 \(the others: 16, 9 pixels.*2=void"),
        "range": (labels(), "2-9=disc", r"value\(s\) 1; its classes are 0, 2-9 \(the others: 240 pixels"),
        "many": (many, "1-2=disc", r"value\(s\) 3, 4, 5, 6, 7, 8, 759 more; .* 1, 1, 1, 1, 1, 1, 759 pixels"),
        "colour": (
            coloured(*VOC),
            "#800000=disc",
            r"colour\(s\) #008000, #808000; its classes are #000000, #800000 \(.* 16, 9 pixels.*#008000=void",
        ),
        "no VOC": (
            coloured((0, 0, 0), (255, 0, 0), (0, 0, 0), (0, 0, 0)),
            "1=disc",
            r'is in colour: .* #000000, #ff0000 \(on 528, 240 pixels\) use labelmap --classes "#ff0000=NAME',
        ),
        "halves": (labels().astype(np.float32) / 2, "1=disc", r"value\(s\) 0\.5, 1\.5"),
    }  # fmt: skip

    def check(name: str) -> None:
        pixels, classes, message = cases[name]
        kind = "1.tif" if pixels.dtype == np.float32 else "1.png"
        with pytest.raises(DataError, match=rf"masks/1\.\w+ (holds the )?{message}"):
            read(tmp_path / name, pixels, classes, kind)

    check_all(check, [(name,) for name in cases])


def test_palette_of_pascal_voc():
    """Its first classes, as the development kit lists them."""
    assert [f"{code:06x}" for code in voc_palette()[:9]] == [
        *("000000", "800000", "008000", "808000", "000080", "800080", "008080", "808080", "400000")
    ]
    assert voc_palette()[255] == 0xE0E0C0 and len({*voc_palette().tolist()}) == 256


def test_lists_that_cannot_be_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labelmap.txt").write_text("disc:250,50::\n")
    (tmp_path / "other.txt").write_text("disc 250 50\n")

    def check(text: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            parse_classes(text)

    cases = {
        "1=a,#ff0000=b": "write values, or colours for all classes",
        "1+#ff0000=b": "'1\\+#ff0000' is no class; write VALUE=STRUCTURE",
        "#ff00=b": "'#ff00' is no class",
        "9-1=b": "9-1 goes from",
        "255=void": "labelmap needs --classes, such as",
        "labelmap.txt": r"labelmap\.txt: 'disc:250,50::' is no line of CVAT's",
        "other.txt": r"other\.txt: 'disc 250 50' is no line",
        "none.txt": r"none\.txt cannot be opened \(.*\): give the path of CVAT's file",
        "1=a,2=A": "a occurs twice",
    }
    check_all(check, cases.items())


# --- the command --------------------------------------------------------------------------------------------------


def folder_of(path: Path, **masks: np.ndarray) -> Path:
    for part in ("images", "vessel"):
        (path / part).mkdir(parents=True)
    for name, values in masks.items():
        cv2.imwrite(str(path / f"images/{name}.jpg"), np.full((*SIZE, 3), 90, np.uint8))
        Image.fromarray(values).save(path / f"vessel/{name}.{'tif' if values.dtype == np.float32 else 'png'}")
    return path


def test_folder_names_every_mask_that_is_a_map_of_classes(tmp_path, capsys):
    source = folder_of(
        tmp_path / "in",
        a=labels() // 3 * 255,
        b=np.minimum(labels(), 2) * 127,
        c=coloured((0, 0, 0), (255, 0, 0), (0, 0, 255), (0, 0, 0)),
    )
    assert run_command(prepare_dataset, ["folder", str(source), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "2 problem(s) in the data" in error and not (tmp_path / "out").exists()
    assert "vessel/b.png is not binary (values 0, 127, 254 on 503, 240, 25 pixels)" in error
    assert '--classes "127=NAME,254=NAME"' in error
    assert "vessel/c.png is not binary (3 colours, #000000, #0000ff, #ff0000 on" in error


def test_folder_takes_floats_and_a_threshold(tmp_path, capsys, caplog):
    soft = cv2.GaussianBlur((labels() > 0).astype(np.float32), (0, 0), 2)
    source = folder_of(tmp_path / "in", a=soft, b=(soft * 0.98).astype(np.float32))
    flags = ["--split", "100/0/0", "--num_workers", "1"]
    sums = {}
    for name, more in {"half": [], "low": ["--threshold", "0.2"]}.items():
        assert run_command(prepare_dataset, ["folder", str(source), str(tmp_path / name), *flags, *more]) == 0
        told = caplog.text
        caplog.clear()
        assert ("masks of floats are cut at half of their range" in told and "and 1 more" in told) == (name == "half")
        sums[name] = [
            cv2.imread(str(path), 0).astype(bool).sum() for path in sorted((tmp_path / name / "masks").iterdir())
        ]
    assert sums == {
        name: [(values >= share).sum() for values in (soft, (soft * 0.98).astype(np.float32))]
        for name, share in {"half": 0.5, "low": 0.2}.items()
    }
    assert (
        run_command(
            prepare_dataset, ["labelmap", str(source), str(tmp_path / "x"), "--classes", "1=a", "--threshold", "0.2"]
        )
        == 2
    )
    assert "are not soft; leave it out" in capsys.readouterr().err


def test_folder_notes_each_value_and_colour_that_is_read_as_white(tmp_path, caplog):
    """Arteries in red in one file and veins in blue in another may not be meant as one structure."""
    square = (labels() > 0).astype(np.uint8)
    blank = square * 0
    source = folder_of(
        tmp_path / "in",
        a=np.dstack([square * 255, blank, blank]),
        b=np.dstack([blank, blank, square * 255]),
        c=square * 100,
        d=square * 255,
    )
    flags = ["--split", "100/0/0", "--num_workers", "1"]
    assert run_command(prepare_dataset, ["folder", str(source), str(tmp_path / "out"), *flags]) == 0
    said = [record.getMessage() for record in caplog.records if "on black is the structure" in record.getMessage()]
    assert sorted(line.split()[1] for line in said) == ["#0000ff", "#ff0000", "100"]
    assert all("(265 pixels)" in line for line in said)


# --- labels of annotation tools ---------------------------------------------------------------------------------


def test_labels_become_structures():
    names = LabelNames("Optic Disc=optic_disc, rim=optic_disc,cup=optic_disc,cup=optic cup,artefact=void,a=b=vessel")
    shown = {
        label: names.structures(label) for label in ("Optic Disc", "rim", "cup", "artefact", "a=b", "Hard Exudate")
    }
    assert shown == {
        "Optic Disc": ["optic_disc"],
        "rim": ["optic_disc"],
        "cup": ["optic_disc", "optic_cup"],
        "artefact": [],
        "a=b": ["vessel"],
        "Hard Exudate": ["hard_exudate"],
    }
    names.check()


def test_labels_that_cannot_work_are_refused():
    for text in ("disc", "=disc", "disc=", "a=b,c"):
        with pytest.raises(DataError, match=r"--classes .*: .* is no class; write LABEL=STRUCTURE"):
            LabelNames(text)
    names = LabelNames("Optic Disk=optic_disc")
    names.structures("Optic Disc")
    with pytest.raises(DataError, match=r"there is no label Optic Disk \(those of SOURCE: Optic Disc\)"):
        names.check()
