// Masks over the photograph: see-through areas, or outlines that are equally wide at every scale.

const WIDTH = 1.5; // of an outline, in screen pixels
const FAINTER = 0.7; // saved masks of other structures, beside the one that is drawn

export class Layers {
  constructor() {
    Object.assign(this, { opacity: 0.5, outlined: false, shown: true, state: [] });
  }

  // Pictures of masks, each of the photograph's size, in a context of the photograph's pixels; `own` is being drawn. The
  // others are put together on a canvas of the screen's size once for each place that is looked at.
  draw(context, others, own) {
    if (!this.shown) {
      return;
    }
    const { a, e, f } = context.getTransform(), { width, height } = context.canvas;
    const state = [a, e, f, width, height, this.opacity, this.outlined, ...others];
    if (state.length !== this.state.length || state.some((value, i) => value !== this.state[i])) {
      this.others = sized(this.others, width, height);
      const all = this.others.getContext("2d");
      all.setTransform(context.getTransform());
      all.imageSmoothingEnabled = context.imageSmoothingEnabled;
      others.forEach((layer) => this.drawOne(all, layer, this.opacity * FAINTER));
      this.state = state;
    }
    drawOnScreen(context, this.others);
    if (own) {
      this.drawOne(context, own, this.opacity);
    }
  }

  drawOne(context, layer, opacity) {
    if (this.outlined) {
      this.outline(context, layer);
    } else {
      context.globalAlpha = opacity;
      context.drawImage(layer, 0, 0);
      context.globalAlpha = 1;
    }
  }

  // The mask, moved in eight directions on the screen, without the mask itself.
  outline(context, layer) {
    const { width, height } = context.canvas, by = WIDTH * (window.devicePixelRatio || 1);
    this.area = sized(this.area, width, height);
    this.line = sized(this.line, width, height);
    const area = this.area.getContext("2d"), line = this.line.getContext("2d");
    area.setTransform(context.getTransform());
    area.imageSmoothingEnabled = false;
    area.drawImage(layer, 0, 0);
    for (let i = 0; i < 8; i++) {
      line.drawImage(this.area, by * Math.cos(i * Math.PI / 4), by * Math.sin(i * Math.PI / 4));
    }
    line.globalCompositeOperation = "destination-out";
    line.drawImage(this.area, 0, 0);
    drawOnScreen(context, this.line);
  }
}

// A canvas of the screen's size as it is.
function drawOnScreen(context, canvas) {
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(canvas, 0, 0);
  context.restore();
}

// An empty canvas of this size.
function sized(canvas, width, height) {
  const found = canvas ?? document.createElement("canvas");
  return Object.assign(found, { width, height }); // which clears it
}
