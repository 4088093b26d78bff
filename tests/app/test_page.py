"""The scripts of the app's page, run by Node where it is installed."""

import json
import re
from typing import Any

import cv2
import numpy as np
import pytest

from app.web import STATIC
from segment_anything.utils.rle import mask_to_rle, rle_to_mask
from tests.helpers.node_scripts import node, with_node


def test_the_pages_scripts_stay_short():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in STATIC.glob("*.js")}
    assert "main.js" in lengths and max(lengths.values()) < 400, lengths


@with_node
def test_the_page_reads_and_writes_masks_as_python_does():
    mask = np.random.default_rng(1).random((7, 5)) < 0.3
    rle = mask_to_rle(mask, compressed=False)
    code = f"""
        import {{ Mask }} from "{(STATIC / "mask.js").as_uri()}";
        const mask = Mask.fromRle({json.dumps(rle)});
        const again = mask.toRle(), rows = [...mask.values];
        const part = mask.paint(2, 3, 1.5, 1);
        console.log(JSON.stringify({{ again, rows, part, painted: [...mask.values], empty: new Mask(3, 2).toRle() }}));
    """
    told = node(code)
    assert (rle_to_mask(told["again"]) == mask).all() and told["again"]["size"] == [7, 5]
    assert np.reshape(told["rows"], (7, 5)).tolist() == mask.astype(int).tolist()
    y, x = np.mgrid[:7, :5] + 0.5
    assert np.reshape(told["painted"], (7, 5)).tolist() == (mask | (np.hypot(x - 2, y - 3) <= 1.5)).astype(int).tolist()
    assert told["empty"] == {"size": [2, 3], "counts": [6]}


@with_node
def test_a_prompt_adds_to_the_mask_before_it_or_takes_from_it():
    code = f"""
        import {{ Mask }} from "{(STATIC / "mask.js").as_uri()}";
        import {{ asSent, beginsAnother, isTaking, noPrompt }} from "{(STATIC / "prompt.js").as_uri()}";
        const base = new Mask(4, 1, Uint8Array.from([1, 1, 0, 0]));
        const answer = new Mask(4, 1, Uint8Array.from([0, 1, 1, 0]));
        const on = {{ x: 0, y: 0, foreground: true }}, beside = {{ x: 0, y: 0, foreground: false }};
        const adds = {{ ...noPrompt(), clicks: [on] }}, takes = {{ ...noPrompt(), clicks: [beside] }};
        console.log(JSON.stringify({{
          added: [...base.combined(answer, false).values],
          taken: [...base.combined(answer, true).values],
          kept: [...base.values],
          taking: [isTaking(adds, base), isTaking(takes, base), isTaking(takes, null), isTaking(noPrompt(), base)],
          boxed: isTaking({{ ...takes, box: [0, 0, 1, 1] }}, base),
          sent: [asSent(takes, base).clicks[0].foreground, asSent(takes, null).clicks[0].foreground],
          begins: [
            beginsAnother(beside, adds, base, answer), // on the mask before the prompt
            beginsAnother({{ ...beside, x: 1 }}, adds, base, answer), // in its answer
            beginsAnother({{ ...beside, x: 3 }}, adds, base, answer), // elsewhere
            beginsAnother(beside, takes, base, answer),
            beginsAnother(on, takes, base, answer),
            beginsAnother(on, adds, base, answer),
            beginsAnother(beside, adds, null, answer),
          ],
        }}));
    """
    assert node(code) == {
        "added": [1, 1, 1, 0],
        "taken": [1, 0, 0, 0],
        "kept": [1, 1, 0, 0],
        "taking": [False, True, False, False],
        "boxed": False,
        "sent": [True, False],
        "begins": [True, False, False, False, True, False, False],
    }


def told_by_the_mouse(steps: str) -> list[list]:
    """What the mouse tells the page in `steps`, on a photograph of 50 x 40 pixels at the screen's scale."""
    return node(f"""
        import {{ Mouse }} from "{(STATIC / "mouse.js").as_uri()}";
        const listeners = {{}}, told = [];
        let tool = "prompt", erases = false;
        const canvas = {{ addEventListener: (type, action) => {{ listeners[type] = action; }} }};
        Object.assign(canvas, {{ focus() {{}}, setPointerCapture() {{}} }});
        const view = {{ canvas, image: {{ width: 50, height: 40 }}, redraw() {{}} }};
        view.zoom = (factor, {{ offsetX }}) => told.push(["zoom", factor, offsetX]);
        view.move = (...by) => told.push(["move", by]);
        view.place = ({{ offsetX, offsetY }}) => ({{ x: offsetX, y: offsetY }});
        const mouse = new Mouse(view, {{
          mayBegin: () => true,
          tool: () => tool,
          erases: () => erases,
          beginStroke: () => told.push(["begin"]),
          cancelStroke: () => told.push(["cancel"]),
          point: (place, value) => told.push(["point", place.x, value]),
          stroke: (from, to, value) => told.push(["stroke", to.x, value]),
          box: (box) => told.push(["box", box]),
          click: (click) => told.push(["click", click]),
        }});
        const gesture = (places, more = {{}}) => {{
          const moved = {{ movementX: 2, movementY: 3, ...more }};
          const events = places.map(([offsetX, offsetY]) => ({{ offsetX, offsetY, ...moved }}));
          listeners.pointerdown(events[0]);
          events.slice(1).forEach(listeners.pointermove);
          listeners.pointerup(events.at(-1));
        }};
        {steps}
        console.log(JSON.stringify(told));
    """)


@with_node
def test_the_mouse_gives_clicks_boxes_strokes_and_corners():
    """A drag is a box of whole pixels inside the photograph."""
    told = told_by_the_mouse("""
        gesture([[3.7, 5.2]]);
        gesture([[3.7, 5.2], [5, 6]], { button: 2 });
        gesture([[60, 5]]);
        gesture([[30.5, 20], [10, 10], [-4, 60]]);
        mouse.space = true;
        gesture([[3, 5], [9, 9]]);
        mouse.space = false;
        erases = true;
        gesture([[3, 5]]);
        tool = "polygon";
        gesture([[4, 5]]);
        erases = false;
        gesture([[5, 5]]);
        tool = "brush";
        gesture([[3, 5], [9, 9]], { altKey: true });
        gesture([[4, 5]], { pointerType: "pen", buttons: 32 });
    """)
    assert told == [
        ["click", {"x": 3, "y": 5, "foreground": True}],
        ["click", {"x": 3, "y": 5, "foreground": False}],
        ["box", [0, 20, 31, 40]],
        ["move", [2, 3]],
        ["click", {"x": 3, "y": 5, "foreground": False}],
        ["point", 4, 0],
        ["point", 5, 1],
        ["begin"],
        ["stroke", 3, 0],
        ["stroke", 9, 0],
        ["begin"],
        ["stroke", 4, 0],
    ]


@with_node
def test_a_second_finger_takes_back_the_stroke_of_the_first():
    told = told_by_the_mouse("""
        tool = "brush";
        const touch = (type, pointerId, offsetX, offsetY) =>
          listeners[type]({ pointerType: "touch", pointerId, offsetX, offsetY });
        touch("pointerdown", 1, 10, 10);
        touch("pointerdown", 2, 20, 10);
        touch("pointermove", 2, 30, 10);
        touch("pointerup", 2, 30, 10);
        touch("lostpointercapture", 2, 30, 10);
        touch("pointermove", 1, 12, 10); // the finger that is left draws nothing
        touch("pointerup", 1, 12, 10);
        touch("lostpointercapture", 1, 12, 10);
        touch("pointerdown", 3, 7, 10);
        touch("pointerup", 3, 7, 10);
    """)
    assert told == [
        ["begin"],
        ["stroke", 10, 1],
        ["cancel"],
        ["zoom", 2, 15],
        ["move", [5, 0]],
        ["begin"],
        ["stroke", 7, 1],
    ]


# --- how photographs are shown ------------------------------------------------------------------------------------


def adjusted(image: np.ndarray, *settings: dict[str, object]) -> list[np.ndarray]:
    """A picture, RGB uint8 [H, W, 3], as the page shows it with each of the settings."""
    height, width = image.shape[:2]
    pixels = np.dstack([image, np.full((height, width), 255, np.uint8)]).ravel().tolist()
    told = node(f"""
        import {{ adjust, plain }} from "{(STATIC / "pixels.js").as_uri()}";
        console.log(JSON.stringify({json.dumps(settings)}.map((one) => {{
          const pixels = Uint8ClampedArray.from({json.dumps(pixels)});
          adjust(pixels, {width}, {height}, {{ ...plain(), ...one }});
          return [...pixels];
        }})));
    """)
    found = np.reshape(told, (len(settings), height, width, 4)).astype(np.uint8)
    assert (found[..., 3] == 255).all()
    return list(found[..., :3])


def picture(height: int, width: int) -> np.ndarray:
    smooth = cv2.GaussianBlur(np.random.default_rng(width).random((height, width, 3)), (0, 0), 3)
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


@with_node
@pytest.mark.parametrize("size", [(64, 80), (61, 77), (61, 64), (64, 67)])
def test_local_contrast_is_that_of_opencv(size):
    image, limits = picture(*size), (0.5, 3)
    for limit, found in zip(
        limits, adjusted(image, *({"channel": "green", "clahe": limit} for limit in limits)), strict=True
    ):
        expected = cv2.createCLAHE(limit, (8, 8)).apply(np.ascontiguousarray(image[..., 1]))
        assert np.abs(found[..., 0].astype(int) - expected).max() <= 1
        assert (found == found[..., :1]).all() and (found[..., 1] != image[..., 1]).any()


@with_node
def test_local_contrast_of_a_colour_photograph_keeps_the_differences_of_its_channels():
    image = picture(64, 80) // 2 + 60
    found = adjusted(image, {"clahe": 2})[0].astype(int)
    inside = ((found > 0) & (found < 255)).all(-1)
    assert inside.mean() > 0.8 and (found != image).any()
    assert (np.diff(found, axis=-1) == np.diff(image.astype(int), axis=-1))[inside].all()


@with_node
def test_channels_brightness_contrast_and_gamma():
    image = picture(9, 11)
    share = image / 255
    cases = [
        ({}, share),
        *(({"channel": name}, share[..., [i] * 3]) for i, name in enumerate(("red", "green", "blue"))),
        ({"brightness": 0.2}, share + 0.2),
        ({"contrast": 2}, (share - 0.5) * 2 + 0.5),
        ({"gamma": 2}, np.sqrt(share)),
        ({"brightness": -0.1, "contrast": 0.5, "gamma": 0.5}, (share**2 - 0.5) * 0.5 + 0.4),
    ]
    found = adjusted(image, *(settings for settings, _ in cases))
    for one, (settings, expected) in zip(found, cases, strict=True):
        assert np.abs(one - 255 * expected.clip(0, 1)).max() <= 0.51, settings


@with_node
def test_colours_of_structures_are_distinct_stable_and_unlike_a_fundus():
    code = f"""
        import {{ colourAt, toOklab }} from "{(STATIC / "colours.js").as_uri()}";
        const others = await import("{(STATIC / "colours.js").as_uri()}?again");
        const late = others.colourAt(50);
        const colours = [...Array(40).keys()].map(colourAt);
        const fundus = ["#000000", "#7a2f16", "#b0502a", "#e08a4c", "#f8e0b0"].map(toOklab);
        const again = colours.map((_, i) => others.colourAt(i)).concat(late);
        console.log(JSON.stringify({{ colours, again, labs: colours.map(toOklab), fundus, red: toOklab("#ff0000") }}));
    """
    told = node(code)
    assert told["red"] == pytest.approx([0.62796, 0.22486, 0.12585], abs=1e-4)  # of Ottosson's page
    assert told["colours"] == told["again"][:40] and len(set(told["again"])) == 41
    labs, fundus = np.array(told["labs"]), np.array(told["fundus"])
    between = np.linalg.norm(labs[:, None] - labs, axis=-1) + np.eye(40)
    assert between[:7, :7].min() > 0.12 and between.min() > 0.04  # 0.02 is just seen
    assert np.linalg.norm(labs[:, None] - fundus, axis=-1).min() > 0.15


# --- regions ------------------------------------------------------------------------------------------------------


def regions(code: str, mask: np.ndarray) -> Any:
    height, width = mask.shape
    return node(f"""
        import {{ Mask }} from "{(STATIC / "mask.js").as_uri()}";
        import {{ connected, fillPolygon, setPlaces }} from "{(STATIC / "regions.js").as_uri()}";
        const mask = new Mask({width}, {height}, Uint8Array.from({json.dumps(mask.astype(int).ravel().tolist())}));
        {code}
    """)


@with_node
def test_a_polygon_fills_the_pixels_whose_centres_lie_in_it():
    """Corners may lie outside the photograph, and sides may cross."""
    rng = np.random.default_rng(0)
    polygons = [rng.uniform(-4, 16, (count, 2)).round(2).tolist() for count in (3, 4, 5, 7) * 20]
    told = regions(
        f"""
        console.log(JSON.stringify({json.dumps(polygons)}.map((corners) => {{
          const own = mask.copy(), part = fillPolygon(own, corners.map(([x, y]) => ({{ x, y }})), 1);
          return {{ part, values: [...own.values] }};
        }})));
        """,
        np.zeros((9, 12), bool),
    )
    y, x = np.mgrid[:9, :12] + 0.5
    for corners, one in zip(polygons, told, strict=True):
        inside = np.zeros((9, 12), bool)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            if y0 != y1:
                inside ^= ((y0 <= y) != (y1 <= y)) & (x > x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        found, part = np.reshape(one["values"], (9, 12)) > 0, one["part"]
        assert (found == inside).all()
        found[part["y"] : part["y"] + part["height"], part["x"] : part["x"] + part["width"]] = False
        assert not found.any()
    assert sum(any(one["values"]) for one in told) > 40


@with_node
def test_connected_places_are_those_of_opencv():
    mask = np.random.default_rng(0).random((20, 30)) < 0.6
    labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1]
    for label in (1, 2, labels.max()):
        y, x = np.argwhere(labels == label)[-1]
        code = f"""
            const {{ places, atBorder }} = connected(mask, {x}, {y}), part = setPlaces(mask, places, 0);
            console.log(JSON.stringify({{ values: [...mask.values], atBorder, part }}));
        """
        told = regions(code, mask)
        own = labels == label
        assert (np.reshape(told["values"], mask.shape) == (mask & ~own)).all()
        inner = own.copy()
        inner[1:-1, 1:-1] = False
        assert told["atBorder"] == inner.any()
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        assert told["part"] == {
            "x": columns[0],
            "y": rows[0],
            "width": np.ptp(columns) + 1,
            "height": np.ptp(rows) + 1,
        }


# --- keys ---------------------------------------------------------------------------------------------------------


def test_the_sheet_of_keys_lists_every_key():
    table = (STATIC / "controls.js").read_text(encoding="utf-8").split("function keysOf", 1)[1].split("\n}\n", 1)[0]
    keys = set(re.findall(r'^    "?([^\s"]+?)"?: ', table, re.MULTILINE))
    assert len(keys) > 25, keys
    arrows = {"ArrowLeft": "←", "ArrowRight": "→"}
    sheet = (STATIC / "index.html").read_text(encoding="utf-8").split("<dialog", 1)[1]
    told = set(re.findall("<kbd>(.*?)</kbd>", sheet))
    assert {arrows.get(key, key) for key in keys} | {"1", "9"} == told
