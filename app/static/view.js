// The photograph on the screen with its masks and prompts; positions on the screen become pixels of the photograph.

import { Display } from "./display.js";

const FOREGROUND = "#56B4E9", BACKGROUND = "#CC79A7";

export class View {
  constructor(canvas, draw) {
    Object.assign(this, { canvas, image: null, scale: 1, x: 0, y: 0, whole: true });
    this.redraw = () => {
      cancelAnimationFrame(this.waiting);
      this.waiting = requestAnimationFrame(() => this.paint(draw));
    };
    this.display = new Display(this.redraw);
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  // Of another size: the whole photograph again, or the place that was looked at.
  resize() {
    if (this.whole) {
      this.fit();
      return;
    }
    this.fill();
    this.redraw();
  }

  fill() {
    const { clientWidth: width, clientHeight: height } = this.canvas, ratio = window.devicePixelRatio || 1;
    [this.canvas.width, this.canvas.height] = [width * ratio, height * ratio];
    return { width, height };
  }

  show(image) {
    this.image = image;
    this.display.show(image);
    this.fit();
  }

  // The whole photograph, in the middle.
  fit() {
    const { width, height } = this.fill();
    this.whole = true;
    if (this.image) {
      this.scale = 0.97 * Math.min(width / this.image.width, height / this.image.height);
      this.x = (width - this.image.width * this.scale) / 2;
      this.y = (height - this.image.height * this.scale) / 2;
    }
    this.redraw();
  }

  move(dx, dy) {
    this.whole = false;
    this.x += dx;
    this.y += dy;
    this.redraw();
  }

  // Zoom in or out; what is under the pointer stays there.
  zoom(factor, event) {
    const before = this.scale;
    this.whole = false;
    this.scale = Math.min(64, Math.max(0.02, this.scale * factor));
    this.x = event.offsetX - (event.offsetX - this.x) * this.scale / before;
    this.y = event.offsetY - (event.offsetY - this.y) * this.scale / before;
    this.redraw();
  }

  // Zoom in or out without a pointer: the middle stays. With `scale` instead of a factor, one pixel has that size.
  zoomMiddle(factor, scale = this.scale * factor) {
    const { clientWidth, clientHeight } = this.canvas;
    this.zoom(scale / this.scale, { offsetX: clientWidth / 2, offsetY: clientHeight / 2 });
  }

  // One pixel of the photograph for one of the screen.
  showPixels() {
    this.zoomMiddle(1, 1 / (window.devicePixelRatio || 1));
  }

  // Position in the photograph, continuous: pixel i lies between i and i + 1.
  place(event) {
    return { x: (event.offsetX - this.x) / this.scale, y: (event.offsetY - this.y) / this.scale };
  }

  paint(draw) {
    const context = this.canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (this.image) {
      context.setTransform(ratio * this.scale, 0, 0, ratio * this.scale, ratio * this.x, ratio * this.y);
      context.imageSmoothingEnabled = this.scale < 2;
      context.drawImage(this.display.drawn, 0, 0, this.image.width, this.image.height);
      draw(context, 1 / this.scale);
    }
  }
}

// Lines and dots below are `unit` pixels of the photograph for one of the screen.
export function drawPrompt(context, unit, { box, clicks }) {
  if (box) {
    context.strokeStyle = FOREGROUND;
    context.lineWidth = 2 * unit;
    context.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
  }
  for (const { x, y, foreground } of clicks) {
    context.beginPath();
    context.arc(x + 0.5, y + 0.5, 5 * unit, 0, 2 * Math.PI);
    context.fillStyle = foreground ? FOREGROUND : BACKGROUND;
    context.strokeStyle = "white";
    context.lineWidth = 1.5 * unit;
    context.fill();
    context.stroke();
  }
}

export function drawBrush(context, unit, place, radius) {
  context.beginPath();
  context.arc(place.x, place.y, radius, 0, 2 * Math.PI);
  strokeTwice(context, unit);
}

export function drawPolygon(context, unit, corners) {
  context.beginPath();
  corners.forEach(({ x, y }) => context.lineTo(x, y));
  strokeTwice(context, unit);
  context.beginPath();
  context.arc(corners[0].x, corners[0].y, 5 * unit, 0, 2 * Math.PI);
  strokeTwice(context, unit);
}

// White on black, to be seen on vessels and on the disc.
function strokeTwice(context, unit) {
  for (const [colour, width] of [["black", 3], ["white", 1.5]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: width * unit });
    context.stroke();
  }
}
