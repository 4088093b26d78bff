"""The scripts of the app's page, run by Node where it is installed."""

import json

import numpy as np

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


@with_node
def test_the_mouse_gives_clicks_boxes_and_strokes():
    """On a photograph of 50 x 40 pixels at the screen's scale: a drag is a box of whole pixels inside it."""
    code = f"""
        import {{ Mouse }} from "{(STATIC / "mouse.js").as_uri()}";
        const listeners = {{}}, told = [];
        let brush = false;
        const canvas = {{ addEventListener: (type, action) => {{ listeners[type] = action; }} }};
        Object.assign(canvas, {{ focus() {{}}, setPointerCapture() {{}} }});
        const view = {{ canvas, image: {{ width: 50, height: 40 }}, redraw() {{}} }};
        view.move = (...by) => told.push(["move", by]);
        view.place = ({{ offsetX, offsetY }}) => ({{ x: offsetX, y: offsetY }});
        const mouse = new Mouse(view, {{
          mayBegin: () => true,
          isBrush: () => brush,
          beginStroke: () => told.push(["begin"]),
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
        gesture([[3.7, 5.2]]);
        gesture([[3.7, 5.2], [5, 6]], {{ button: 2 }});
        gesture([[60, 5]]);
        gesture([[30.5, 20], [10, 10], [-4, 60]]);
        mouse.space = true;
        gesture([[3, 5], [9, 9]]);
        mouse.space = false;
        brush = true;
        gesture([[3, 5], [9, 9]], {{ altKey: true }});
        console.log(JSON.stringify(told));
    """
    assert node(code) == [
        ["click", {"x": 3, "y": 5, "foreground": True}],
        ["click", {"x": 3, "y": 5, "foreground": False}],
        ["box", [0, 20, 31, 40]],
        ["move", [2, 3]],
        ["begin"],
        ["stroke", 3, 0],
        ["stroke", 9, 0],
    ]
