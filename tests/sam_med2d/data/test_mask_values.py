"""One structure on black, with edges of any kind, is told from maps of classes and probabilities."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sam_med2d.data.image_io import read_mask
from sam_med2d.data.mask_values import binary_mask, classes_of
from sam_med2d.dataset_conversion.mask_readers import BLACK_AND_WHITE, White
from sam_med2d.errors import DataError, ValuesError
from sam_med2d.notes import REMARKS
from tests.helpers.cases import check_all

SIZE = (160, 200)
Drawing = Callable[[int], np.ndarray]  # a scale -> uint8 {0, 1} of SIZE times it


def disc(scale: int = 1, radius: float = 40, place: tuple[int, int] = (90, 80)) -> np.ndarray:
    rows, columns = np.ogrid[: SIZE[0] * scale, : SIZE[1] * scale]
    return ((columns - place[0] * scale) ** 2 + (rows - place[1] * scale) ** 2 < (radius * scale) ** 2).astype(np.uint8)


def vessels(scale: int = 1, width: float = 2) -> np.ndarray:
    mask = np.zeros((SIZE[0] * scale, SIZE[1] * scale), np.uint8)
    for seed in range(8):
        corners = np.random.default_rng(seed).integers(5, 155, (5, 2)) * scale
        cv2.polylines(mask, [corners.astype(np.int32)], False, 1, max(1, round(width * scale)))
    return mask


def hairs(scale: int = 1) -> np.ndarray:
    return vessels(scale, 1)


def dots(scale: int = 1) -> np.ndarray:
    """Lesions of 1 to 12 pixels."""
    generator = np.random.default_rng(0)
    mask = np.zeros((SIZE[0] * scale, SIZE[1] * scale), np.uint8)
    for _ in range(60):
        row, column = generator.integers(4, 150, 2) * scale + generator.integers(0, scale, 2)
        height, width = generator.integers(1, 4, 2) * scale
        mask[row : row + height, column : column + width] = 1
    return mask


DRAWINGS: dict[str, Drawing] = {
    "disc": disc,
    "vessels": vessels,
    "hairs": hairs,
    "dots": dots,
    "cup": lambda scale: disc(scale, 9),
}


def jpeg(values: np.ndarray, quality: int, *, colour: bool = False) -> np.ndarray:
    pixels = np.dstack([values * 0, values // 4, values]) if colour else values
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1] if colour else cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


def webp(values: np.ndarray, quality: int) -> np.ndarray:
    data = cv2.imencode(".webp", np.dstack([values] * 3), [cv2.IMWRITE_WEBP_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


def shrunk(draw: Drawing, scale: int, method: int = cv2.INTER_AREA) -> np.ndarray:
    return cv2.resize(draw(scale) * 255, SIZE[::-1], interpolation=method)


def enlarged(draw: Drawing, scale: float, method: int = cv2.INTER_LINEAR) -> np.ndarray:
    return cv2.resize(draw(1) * 255, None, fx=scale, fy=scale, interpolation=method)


EDGES: dict[str, Callable[[Drawing], np.ndarray]] = {
    **{f"JPEG {q}": lambda draw, q=q: jpeg(draw(1) * 255, q) for q in (20, 50, 75, 90, 95, 100)},
    **{f"red JPEG {q}": lambda draw, q=q: jpeg(draw(1) * 255, q, colour=True) for q in (50, 75, 95)},
    **{f"WebP {q}": lambda draw, q=q: webp(draw(1) * 255, q) for q in (30, 80, 100)},
    **{f"area / {n}": lambda draw, n=n: shrunk(draw, n) for n in (2, 3, 4, 5)},
    **{f"linear x {n}": lambda draw, n=n: enlarged(draw, n) for n in (1.5, 2, 3, 4)},
    "cubic x 2": lambda draw: enlarged(draw, 2, cv2.INTER_CUBIC),
    "Lanczos x 2": lambda draw: enlarged(draw, 2, cv2.INTER_LANCZOS4),
    "anti-aliased JPEG": lambda draw: jpeg(shrunk(draw, 3), 60),
    "one colour": lambda draw: np.dstack([shrunk(draw, 3), shrunk(draw, 3) // 3, draw(1) * 0]),
    "VOC": lambda draw: np.dstack([shrunk(draw, 4) // 2, draw(1) * 0, draw(1) * 0]),
    "16 bits": lambda draw: shrunk(draw, 4).astype(np.uint16) * 257,
    "12 bits": lambda draw: shrunk(draw, 4).astype(np.uint16) * 16,
}


@pytest.mark.slow
def test_a_mask_with_edges_of_any_kind_is_read_at_half_of_white():
    def check(edges: str, name: str) -> None:
        values = EDGES[edges](DRAWINGS[name])
        mask = binary_mask(values, Path("m.png"))
        light = values if values.ndim == 2 else values.max(axis=2)
        full = {"16 bits": 65535, "12 bits": 4095, "VOC": 127}.get(edges, 255)
        assert not classes_of(values) and np.array_equal(mask, light >= full / 2)
        if edges.startswith(("JPEG 7", "JPEG 9", "JPEG 1")):
            assert np.array_equal(mask, DRAWINGS[name](1))

    check_all(check, [(edges, name) for edges in EDGES for name in DRAWINGS])


def levels(*parts: tuple[np.ndarray, object], background: object = 0) -> np.ndarray:
    colours = [background, *(value for _, value in parts)]
    values = np.full((*SIZE, 3) if isinstance(colours[-1], tuple) else SIZE, background, np.uint8)
    for mask, value in parts:
        values[mask.astype(bool)] = value
    return values


def instances(mask: np.ndarray) -> np.ndarray:
    return cv2.connectedComponents(mask)[1].astype(np.uint8)


RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
LEFT = np.tile(np.arange(SIZE[1]) < 90, (SIZE[0], 1))
MAPS = {
    **{
        f"disc {rim}, cup {cup}": levels((disc(), rim), (disc(1, 15), cup))
        for rim, cup in (
            (127, 255),
            (128, 255),
            (120, 240),
            (100, 200),
            (40, 255),
            (1, 255),
            (1, 2),
            (254, 3),
            (60, 61),
        )
    },
    "REFUGE": levels((disc(), 128), (disc(1, 15), 0), background=255),
    "REFUGE, a cup of 500 px": levels((disc(1, 60), 128), (disc(1, 12.6), 0), background=255),
    "a cup of 500 px beside smooth vessels": np.maximum(shrunk(vessels, 4), disc(1, 12.6, (30, 120)) * 128),
    "lesions of 4 classes": levels((disc(1, 9), 60), (dots(), 128), (dots()[::-1], 200), (dots()[:, ::-1], 255)),
    "tiny lesions 127 and 255": levels((dots(), 127), (dots()[::-1], 255)),
    "instances": instances(dots()),
    "arteries 120, veins 240": levels((hairs(), 120), (hairs() & LEFT, 240)),
    "disc with a rim of one pixel": levels((disc(1, 41), 128), (disc(), 255)),
    "void": levels((vessels(), 1), (disc(1, 10), 255)),
    "two colours": levels((disc(), RED), (disc(1, 15), BLUE), background=BLACK),
    "VOC": levels((disc(), (128, 0, 0)), (disc(1, 15), (0, 128, 0)), background=BLACK),
    "CVAT": levels((disc(), (250, 50, 83)), (disc(1, 15), (36, 36, 36)), background=BLACK),
    "arteries, veins, crossings": levels(
        (hairs(), RED), (hairs()[::-1], BLUE), (hairs() & hairs()[::-1], GREEN), background=BLACK
    ),
    "yellow and red": levels((disc(), (255, 255, 0)), (disc(1, 15), RED), background=BLACK),
    "white background": levels((vessels(), RED), background=(255, 255, 255)),
    "JPEG of two classes": jpeg(levels((disc(), 127), (disc(1, 15), 255)), 75),
    "JPEG of two colours": np.ascontiguousarray(jpeg(disc() * 255, 90, colour=True)[..., ::-1]) // 2
    + jpeg(disc(1, 15) * 255, 90, colour=True) // 2,
    "floats of three classes": levels((disc(), 1), (disc(1, 15), 2)).astype(np.float32),
}
SOFT = {
    **{f"disc, sigma {s}": cv2.GaussianBlur(disc() * 255, (0, 0), s) for s in (6, 12, 20)},
    **{f"vessels, sigma {s}": cv2.GaussianBlur(vessels() * 255, (0, 0), s) for s in (3, 6)},
    "half of a probability": cv2.GaussianBlur(disc() * 255, (0, 0), 8) // 2,
    "photograph": np.random.default_rng(0).integers(40, 220, (*SIZE, 3), np.uint8),
    "grey photograph": cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, SIZE, np.uint8), (0, 0), 2),
    "noise": np.random.default_rng(0).integers(0, 256, SIZE, np.uint8),
    "a ramp over each row": np.arange(SIZE[0] * SIZE[1]).astype(np.uint8).reshape(SIZE),
    "one grey": np.full(SIZE, 90, np.uint8),
    "class 3 alone": disc() * 3,
}


def test_what_has_more_than_one_meaning_is_refused_with_what_was_seen_and_the_way_to_say_it(tmp_path):
    def check(name: str) -> None:
        values = (MAPS | SOFT)[name]
        path = tmp_path / f"{name.replace(' ', '_')}.{'tif' if values.dtype.kind == 'f' else 'png'}"
        Image.fromarray(values).save(path)
        found = classes_of(values)
        assert sum(found.values()) == values.shape[0] * values.shape[1]
        for read in (read_mask, lambda path: BLACK_AND_WHITE(path, SIZE)):
            with pytest.raises(ValuesError) as caught:
                read(path)
            message = str(caught.value)
            assert str(path) in message and " is not binary (" in message and "labelmap --classes " in message
            assert "folder --threshold" in message
            shown = list(found)[: 6 if len(found) <= 6 else 1]
            assert all(level in message and str(found[level]) in message for level in shown), message

    check_all(check, [(name,) for name in MAPS | SOFT])


def test_the_message_names_levels_with_their_pixels():
    cases = {
        "REFUGE": 'values 0, 128, 255 on 697, 4316, 26987 pixels.*--classes "0=NAME,128=NAME,255=NAME"',
        "instances": r"values, 0, .* \.\.\. on .* pixels.*\(1-\d+=NAME if each is one of many\)",
        "JPEG of two classes": r'values, 0, .*127, .*255 \.\.\. on .*"[^"]*127=NAME,[^"]*255=NAME"',
        "two colours": r'3 colours, #000000, #0000ff, #ff0000 on \d+, 697, 4316 pixels.*"#0000ff=NAME,#ff0000=NAME"',
    }

    def check(name: str, message: str) -> None:
        with pytest.raises(ValuesError, match=message):
            binary_mask(MAPS[name], Path("m.png"))

    check_all(check, cases.items())


def test_negative_numbers_are_refused():
    with pytest.raises(ValuesError, match="values -1, 0 on"):
        binary_mask(-disc().astype(np.int8), Path("m.tif"))


def test_lesions_that_were_shrunk_below_white_are_read_at_half():
    values = shrunk(dots, 4)
    values[values > 170] = 170
    assert np.array_equal(binary_mask(values, Path("m.png")), values >= 128)


@pytest.mark.parametrize("white", [1, 255, 4095, 65535])
def test_an_empty_or_full_mask_has_one_meaning(white):
    values = np.zeros(SIZE, np.uint16)
    assert not binary_mask(values, Path("m.png")).any() and binary_mask(values + np.uint16(white), Path("m.png")).all()


# --- floats -------------------------------------------------------------------------------------------------------


def probabilities(top: float = 1) -> np.ndarray:
    return (cv2.GaussianBlur(disc().astype(np.float32), (0, 0), 5) * top).astype(np.float32)


@pytest.mark.parametrize("top", [1, 0.98, 255])
def test_floats_are_cut_at_half_of_their_range_which_is_noted(tmp_path, top):
    path = tmp_path / "m.tif"
    values = probabilities(top)
    values[:3, :4] = np.nan, np.inf, -np.inf, np.nan
    Image.fromarray(values).save(path)
    REMARKS.forget()
    with REMARKS.collected():
        mask = read_mask(path)
        [(kind, seen)] = REMARKS.take().items()
    assert (
        "cut at half" in kind
        and "--threshold" in kind
        and seen == {str(path): f"highest value {values[10:].max():.3g}"}
    )
    assert np.array_equal(mask, np.nan_to_num(values, posinf=0, neginf=0) >= (0.5 if top <= 1 else 127.5))
    assert np.array_equal(mask, BLACK_AND_WHITE(path, SIZE))
    higher = White(0.8)(path, SIZE)
    assert 0 < higher.sum() < mask.sum() and np.array_equal(higher, mask & (values >= 0.8 * (1 if top <= 1 else 255)))


def test_floats_that_are_numbers_of_lesions_are_classes():
    many = np.zeros(SIZE, np.float32)
    for number in range(1, 101):
        row, column = divmod(number - 1, 12)
        many[17 * row + 2 : 17 * row + 9, 16 * column + 2 : 16 * column + 9] = number + 100
    with pytest.raises(ValuesError, match="101 values"):
        binary_mask(many, Path("m.tif"))
    slopes = np.rint(cv2.GaussianBlur(disc() * np.float32(255), None, 9))
    assert np.array_equal(binary_mask(slopes, Path("m.tif")), slopes >= 127.5)


def test_floats_of_0_and_1_need_no_word(tmp_path):
    for top in (1, 255):
        Image.fromarray(disc().astype(np.float32) * top).save(tmp_path / "m.tif")
        with REMARKS.collected():
            assert np.array_equal(read_mask(tmp_path / "m.tif"), disc()) and not REMARKS.take()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (probabilities(0.4), r"its highest value is 0\.4 of 1.*--threshold"),
        (probabilities(37), "holds floats from 0 to 37: save probabilities"),
        (probabilities(20) - 10, "holds floats from -10 to 10: save probabilities"),
        (probabilities(1e6), r"holds floats from 0 to 1e\+06"),
    ],
)
def test_floats_of_no_known_range_are_refused(values, message):
    with pytest.raises(DataError, match=rf"m\.tif .*{message}"):
        binary_mask(values.astype(np.float32), Path("m.tif"))


def test_a_soft_mask_of_8_bits_is_read_where_its_threshold_is_said(tmp_path):
    values = cv2.GaussianBlur(disc() * 255, (0, 0), 12)
    cv2.imwrite(str(tmp_path / "m.png"), values)
    assert np.array_equal(White(0.3)(tmp_path / "m.png", SIZE), values >= 0.3 * 255)


# --- alpha --------------------------------------------------------------------------------------------------------


def test_a_shape_in_alpha_is_read_alike_in_maps_and_folders(tmp_path):
    """Black, white or coloured below, hard or soft edges, in PNG, TIFF and palettes."""
    smooth, hard = shrunk(disc, 4), disc() * 255
    ones = np.ones((*SIZE, 3), np.uint8)
    files = {
        "black.png": (np.dstack([ones * 0, hard]), hard),
        "white.png": (np.dstack([ones * 255, hard]), hard),
        "red.png": (np.dstack([ones * (255, 0, 0), hard]).astype(np.uint8), hard),
        "half.png": (np.dstack([ones * 255, hard // 2]), hard),
        "soft.png": (np.dstack([ones * 0, smooth]), smooth),
        "grey.png": (np.dstack([hard * 0, smooth]), smooth),
        "black.tif": (np.dstack([ones * 0, hard]), hard),
    }

    def check(name: str) -> None:
        pixels, shape = files[name]
        Image.fromarray(pixels, "LA" if pixels.shape[2] == 2 else "RGBA").save(tmp_path / name)
        expected = shape >= 128
        assert np.array_equal(read_mask(tmp_path / name), expected)
        assert np.array_equal(BLACK_AND_WHITE(tmp_path / name, SIZE), expected)

    check_all(check, [(name,) for name in files])


def test_classes_in_alpha_are_seen(tmp_path):
    alpha = levels((disc(), 128), (disc(1, 15), 255))
    Image.fromarray(np.dstack([np.zeros((*SIZE, 3), np.uint8), alpha]), "RGBA").save(tmp_path / "m.png")
    with pytest.raises(ValuesError, match="values 0, 128, 255 on"):
        read_mask(tmp_path / "m.png")
