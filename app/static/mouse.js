// Mouse, pen and fingers on the photograph: a press becomes a click, a box, a stroke of the brush, a corner of a polygon, or
// moves the photograph. Two fingers move and zoom it.

import { Pinch } from "./touch.js";

const DRAG = { mouse: 5, pen: 7, touch: 12 }; // screen pixels from which on a press is a box
const ERASER = 32; // among the buttons of a pen

export class Mouse {
  // page: {mayBegin, tool() -> its name, erases, beginStroke, cancelStroke, stroke(from, to, value), point(place, value),
  // box([x0, y0, x1, y1]), click({x, y, foreground})}
  constructor(view, page) {
    Object.assign(this, { view, page, gesture: null, pointer: null, space: false, pinch: new Pinch(view) });
    const { canvas } = view;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("lostpointercapture", (event) => this.end(event));
    canvas.addEventListener("pointerleave", () => { this.pointer = null; view.redraw(); });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      view.zoom(Math.exp(-event.deltaY / 400), event);
    }, { passive: false });
  }

  // The box that is being drawn.
  get box() {
    return this.gesture?.box;
  }

  press(event) {
    const isTouch = event.pointerType === "touch";
    if (isTouch && this.gesture?.pointerType === "pen") { // the hand that holds it
      return;
    }
    if (isTouch && this.pinch.press(event)) {
      this.cancel();
      return;
    }
    if (!this.page.mayBegin() || this.gesture) {
      return;
    }
    this.view.canvas.focus();
    this.view.canvas.setPointerCapture(event.pointerId);
    const { pointerId, pointerType } = event;
    this.gesture = { pointerId, pointerType, ...this.begin(event) };
    if (this.gesture.kind === "stroke") {
      this.page.beginStroke();
      this.stroke(this.gesture.last);
    }
  }

  // What a press begins.
  begin(event) {
    const from = this.view.place(event), tool = this.page.tool();
    const erases = event.button === 2 || event.altKey || Boolean(event.buttons & ERASER) || this.page.erases();
    if (this.space || event.button === 1) {
      return { kind: "move" };
    }
    if (tool === "brush") {
      return { kind: "stroke", value: erases ? 0 : 1, last: from };
    }
    const start = [event.offsetX, event.offsetY];
    return { kind: tool === "prompt" ? "prompt" : "point", from, foreground: !erases, start };
  }

  // What was begun with one finger was meant to be two.
  cancel() {
    if (this.gesture?.kind === "stroke") {
      this.page.cancelStroke();
    }
    this.gesture = null;
    this.pointer = null;
  }

  stroke(to) {
    this.page.stroke(this.gesture.last, to, this.gesture.value);
    this.gesture.last = to;
  }

  drag(event) {
    const { view, gesture } = this;
    if (this.pinch.move(event) || (gesture && gesture.pointerId !== event.pointerId)) {
      return;
    }
    this.pointer = view.image && view.place(event);
    if (gesture?.kind === "move") {
      view.move(event.movementX, event.movementY);
    } else if (gesture?.kind === "stroke") {
      placesOf(event, view).forEach((place) => this.stroke(place));
    } else if (gesture?.kind === "prompt" && gesture.foreground) {
      const [x, y] = gesture.start;
      if (gesture.box || Math.hypot(event.offsetX - x, event.offsetY - y) >= (DRAG[gesture.pointerType] ?? DRAG.mouse)) {
        gesture.box = boxOf(gesture.from, this.pointer, view.image);
      }
    }
    view.redraw();
  }

  // The pointer is gone, whatever it was about to do.
  end(event) {
    this.pinch.release(event);
    if (this.gesture?.pointerId === event.pointerId) {
      this.gesture = null;
    }
  }

  release(event) {
    const done = this.gesture;
    if (done && done.pointerId !== event.pointerId) {
      return;
    }
    this.gesture = null;
    if (done?.kind === "point") {
      this.page.point(done.from, done.foreground ? 1 : 0);
    }
    if (done?.kind !== "prompt") {
      return;
    }
    const [x0, y0, x1, y1] = done.box ?? [0, 0, 0, 0];
    if (x0 < x1 && y0 < y1) {
      this.page.box(done.box);
    } else if (!done.box && isInside(done.from, this.view.image)) {
      this.page.click({ x: Math.floor(done.from.x), y: Math.floor(done.from.y), foreground: done.foreground });
    }
  }
}

// Where the pointer has been since the event before; a browser gives one event for all of it in a frame.
function placesOf(event, view) {
  const all = event.getCoalescedEvents?.() ?? [];
  return (all.length ? all : [event]).map(({ clientX, clientY }) => view.place({
    offsetX: event.offsetX + (clientX - event.clientX || 0),
    offsetY: event.offsetY + (clientY - event.clientY || 0),
  }));
}

const isInside = ({ x, y }, { width, height }) => x >= 0 && y >= 0 && x < width && y < height;

// Half-open box x0, y0, x1, y1 of whole pixels between two places, inside the photograph.
function boxOf(from, to, { width, height }) {
  const clamp = (value, most) => Math.min(most, Math.max(0, value));
  const xs = [from.x, to.x].map((x) => clamp(x, width)), ys = [from.y, to.y].map((y) => clamp(y, height));
  return [Math.floor(Math.min(...xs)), Math.floor(Math.min(...ys)), Math.ceil(Math.max(...xs)), Math.ceil(Math.max(...ys))];
}
