// A mask of the photograph's size, row by row: its RLE, its picture in a colour, and the brush.

export class Mask {
  constructor(width, height, values = new Uint8Array(width * height)) {
    Object.assign(this, { width, height, values });
  }

  // {size: [height, width], counts}: runs down the columns, the first one of background.
  static fromRle({ size: [height, width], counts }) {
    const mask = new Mask(width, height);
    let place = 0;
    counts.forEach((length, run) => {
      if (run % 2) {
        for (let i = place; i < place + length; i++) {
          mask.values[(i % height) * width + Math.floor(i / height)] = 1;
        }
      }
      place += length;
    });
    return mask;
  }

  toRle() {
    const { width, height, values } = this;
    const counts = [];
    let last = 0, length = 0;
    for (let x = 0; x < width; x++) {
      for (let y = 0, i = x; y < height; y++, i += width) {
        if (values[i] === last) {
          length++;
        } else {
          counts.push(length);
          [last, length] = [values[i], 1];
        }
      }
    }
    counts.push(length);
    return { size: [height, width], counts };
  }

  copy() {
    return new Mask(this.width, this.height, this.values.slice());
  }

  // With the pixels of another mask of its size, or, where `takes`, without them.
  combined(other, takes) {
    const found = this.copy();
    for (let i = 0; i < found.values.length; i++) {
      if (other.values[i]) {
        found.values[i] = takes ? 0 : 1;
      }
    }
    return found;
  }

  isEmpty() {
    return !this.values.includes(1);
  }

  // Set a disc of pixels; what has changed lies in {x, y, width, height}.
  paint(centreX, centreY, radius, value) {
    const left = Math.max(0, Math.floor(centreX - radius)), right = Math.min(this.width, Math.ceil(centreX + radius));
    const top = Math.max(0, Math.floor(centreY - radius)), bottom = Math.min(this.height, Math.ceil(centreY + radius));
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const [dx, dy] = [x + 0.5 - centreX, y + 0.5 - centreY];
        if (dx * dx + dy * dy <= radius * radius) {
          this.values[y * this.width + x] = value;
        }
      }
    }
    return { x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
  }

  // Its picture: a canvas of its size.
  toCanvas(colour) {
    const canvas = Object.assign(document.createElement("canvas"), { width: this.width, height: this.height });
    this.drawInto(canvas, colour);
    return canvas;
  }

  // Draw a part of the mask, or all of it, into a canvas of its size; the colour is #rrggbb.
  drawInto(canvas, colour, part = { x: 0, y: 0, width: this.width, height: this.height }) {
    if (!part.width || !part.height) {
      return;
    }
    const [red, green, blue] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    const pixels = new ImageData(part.width, part.height);
    const words = new Uint32Array(pixels.data.buffer);
    const word = new Uint32Array(new Uint8Array([red, green, blue, 255]).buffer)[0];
    for (let y = 0, to = 0; y < part.height; y++) {
      const row = (part.y + y) * this.width + part.x;
      for (let x = 0; x < part.width; x++, to++) {
        words[to] = this.values[row + x] ? word : 0;
      }
    }
    canvas.getContext("2d").putImageData(pixels, part.x, part.y);
  }
}
