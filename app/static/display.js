// The picture of the photograph as the user wants to see it, made by a worker.

import { isPlain, plain } from "./pixels.js";
import { tell } from "./status.js";

export class Display {
  // change: called when there is another picture.
  constructor(change) {
    Object.assign(this, { change, image: null, picture: null, settings: plain(), turn: 0, sent: null });
  }

  // What is drawn in the place of the photograph.
  get drawn() {
    return this.picture ?? this.image;
  }

  show(image) {
    this.image = image;
    this.drop();
    this.update();
  }

  set(settings) {
    this.settings = { ...this.settings, ...settings };
    this.update();
  }

  drop() {
    this.picture?.close();
    this.picture = null;
  }

  // Ask for a picture; until it is here the one before is shown.
  async update() {
    const turn = ++this.turn, { image } = this;
    if (!image || isPlain(this.settings)) {
      this.drop();
      this.change();
      return;
    }
    const bitmap = image === this.sent ? null : await createImageBitmap(image).catch((error) => error);
    if (bitmap instanceof Error) {
      this.fail(bitmap.message);
    } else if (turn === this.turn) {
      this.sent = image;
      this.post({ turn, settings: this.settings, image: bitmap }, bitmap ? [bitmap] : []);
    } else {
      bitmap?.close();
    }
  }

  post(message, moved) {
    if (!this.worker) {
      this.worker = new Worker(new URL("./display_worker.js", import.meta.url), { type: "module" });
      this.worker.onmessage = ({ data }) => this.take(data);
      this.worker.onerror = (event) => this.fail(event.message);
    }
    this.worker.postMessage(message, moved);
  }

  fail(told) {
    this.sent = null;
    this.drop();
    this.change();
    tell(`This browser cannot change how the photograph is displayed (${told}): it is shown as it is.`, true);
  }

  take({ turn, picture, error }) {
    if (error !== undefined) {
      this.fail(error);
      return;
    }
    if (turn !== this.turn) {
      picture.close();
      return;
    }
    this.drop();
    this.picture = picture;
    this.change();
  }
}
