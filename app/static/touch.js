// Two fingers on the photograph: they move it, and zoom in or out.

export class Pinch {
  constructor(view) {
    Object.assign(this, { view, fingers: new Map(), active: false });
  }

  // Whether there are two fingers or more; then none of them uses the tool until all are lifted.
  press(event) {
    this.fingers.set(event.pointerId, placeOf(event));
    this.active ||= this.fingers.size > 1;
    return this.active;
  }

  // Whether the event was of a pinch.
  move(event) {
    if (this.fingers.has(event.pointerId)) {
      const before = this.measure();
      this.fingers.set(event.pointerId, placeOf(event));
      const after = this.measure();
      if (this.active && before) {
        this.view.zoom(after.distance / before.distance, { offsetX: before.x, offsetY: before.y });
        this.view.move(after.x - before.x, after.y - before.y);
      }
    }
    return this.active;
  }

  release(event) {
    this.fingers.delete(event.pointerId);
    this.active &&= this.fingers.size > 0;
  }

  // The middle of the first two fingers, and how far apart they are.
  measure() {
    const [a, b] = this.fingers.values();
    return b && { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, distance: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) };
  }
}

const placeOf = ({ offsetX, offsetY }) => ({ x: offsetX, y: offsetY });
