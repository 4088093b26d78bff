// The photograph on the screen with its masks and prompts; positions on the screen become pixels of the photograph.

const FOREGROUND = "#56B4E9", BACKGROUND = "#CC79A7";

export class View {
  constructor(canvas, draw) {
    Object.assign(this, { canvas, image: null, scale: 1, x: 0, y: 0, whole: true });
    this.redraw = () => {
      cancelAnimationFrame(this.waiting);
      this.waiting = requestAnimationFrame(() => this.paint(draw));
    };
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

  // Nearer or farther; what is under the pointer stays there.
  zoom(factor, event) {
    const before = this.scale;
    this.whole = false;
    this.scale = Math.min(64, Math.max(0.02, this.scale * factor));
    this.x = event.offsetX - (event.offsetX - this.x) * this.scale / before;
    this.y = event.offsetY - (event.offsetY - this.y) * this.scale / before;
    this.redraw();
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
      context.drawImage(this.image, 0, 0);
      draw(context, 1 / this.scale);
    }
  }
}

// A picture of masks, see-through. Lines and dots below are `unit` pixels of the photograph for one of the screen.
export function drawLayer(context, layer, opacity) {
  context.globalAlpha = opacity;
  context.drawImage(layer, 0, 0);
  context.globalAlpha = 1;
}

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
  context.strokeStyle = "white";
  context.lineWidth = unit;
  context.stroke();
}
