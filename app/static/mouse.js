// The mouse on the photograph: a press becomes a click, a box, a stroke of the brush, or moves the photograph.

const DRAG = 5; // screen pixels from which on a press is a box

export class Mouse {
  // page: {mayBegin, isBrush, beginStroke, stroke(from, to, value), box([x0, y0, x1, y1]), click({x, y, foreground})}
  constructor(view, page) {
    Object.assign(this, { view, page, gesture: null, pointer: null, space: false });
    const { canvas } = view;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", () => this.release());
    canvas.addEventListener("lostpointercapture", () => { this.gesture = null; });
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
    if (!this.page.mayBegin() || this.gesture) {
      return;
    }
    const { view, page } = this;
    view.canvas.focus();
    view.canvas.setPointerCapture(event.pointerId);
    const from = view.place(event), erases = event.button === 2 || event.altKey;
    if (this.space || event.button === 1) {
      this.gesture = { kind: "move" };
    } else if (page.isBrush()) {
      page.beginStroke();
      this.gesture = { kind: "stroke", value: erases ? 0 : 1, last: from };
      this.stroke(from);
    } else {
      this.gesture = { kind: "prompt", from, foreground: !erases, start: [event.offsetX, event.offsetY] };
    }
  }

  stroke(to) {
    this.page.stroke(this.gesture.last, to, this.gesture.value);
    this.gesture.last = to;
  }

  drag(event) {
    const { view, gesture } = this;
    this.pointer = view.image && view.place(event);
    if (gesture?.kind === "move") {
      view.move(event.movementX, event.movementY);
    } else if (gesture?.kind === "stroke") {
      this.stroke(this.pointer);
    } else if (gesture?.kind === "prompt" && gesture.foreground) {
      const [x, y] = gesture.start;
      if (gesture.box || Math.hypot(event.offsetX - x, event.offsetY - y) >= DRAG) {
        gesture.box = boxOf(gesture.from, this.pointer, view.image);
      }
    }
    view.redraw();
  }

  release() {
    const done = this.gesture;
    this.gesture = null;
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

const isInside = ({ x, y }, { width, height }) => x >= 0 && y >= 0 && x < width && y < height;

// Half-open box x0, y0, x1, y1 of whole pixels between two places, inside the photograph.
function boxOf(from, to, { width, height }) {
  const clamp = (value, most) => Math.min(most, Math.max(0, value));
  const xs = [from.x, to.x].map((x) => clamp(x, width)), ys = [from.y, to.y].map((y) => clamp(y, height));
  return [Math.floor(Math.min(...xs)), Math.floor(Math.min(...ys)), Math.ceil(Math.max(...xs)), Math.ceil(Math.max(...ys))];
}
