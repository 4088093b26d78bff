// The buttons and keys of the page. Each button has the name of what it does as its id.

import { listenToKeys } from "./keyboard.js";

// page: {mouse, actions, tools, displayControls, work, choose(number of a structure), escape: what Escape does without a polygon}
export function connect(page) {
  const { mouse, choose } = page, { view } = mouse;
  const actions = {
    ...page.actions,
    zoom_in: () => view.zoomMiddle(1.25),
    zoom_out: () => view.zoomMiddle(0.8),
    fit: () => view.fit(),
    pixels: () => view.showPixels(),
    help: switchHelp,
  };
  for (const [id, action] of Object.entries(actions)) {
    document.getElementById(id).addEventListener("click", () => mouse.gesture || action());
  }
  listenToKeys(mouse, keysOf(actions, page), (digit) => choose(digit - 1));
}

// What each key does; the sheet of keys in the page lists them all.
function keysOf(actions, { tools, displayControls, work, escape }) {
  return {
    n: actions.structure_prompt,
    z: actions.undo,
    y: actions.redo,
    s: actions.save,
    c: actions.accept,
    x: actions.empty,
    a: actions.absent,
    Delete: actions.remove,
    Escape: () => tools.dropPolygon() || escape(),
    Enter: () => tools.close(),
    Backspace: () => tools.dropCorner(),
    b: () => tools.choose("brush"),
    p: () => tools.choose("polygon"),
    h: () => tools.choose("fill"),
    e: () => tools.switchErasing(),
    "[": () => tools.widen(-1),
    "]": () => tools.widen(1),
    v: () => displayControls.switchMasks("shown"),
    o: () => displayControls.switchMasks("outlined"),
    r: () => displayControls.switchRedFree(),
    l: () => displayControls.switchLocalContrast(),
    f: actions.fit,
    0: actions.pixels,
    "+": actions.zoom_in,
    "-": actions.zoom_out,
    "/": () => work.search(),
    "?": actions.help,
    ArrowLeft: actions.previous,
    ArrowRight: actions.next,
  };
}

// Show the sheet of keys, or close it.
function switchHelp() {
  const sheet = document.getElementById("keys");
  if (sheet.open) {
    sheet.close();
  } else {
    sheet.showModal();
  }
}
