// How photograph and masks are displayed: the controls, and what their keys do.

import { plain } from "./pixels.js";

const LOCAL_CONTRAST = 3; // what the key l switches on
const SLIDERS = ["brightness", "contrast", "gamma", "clahe"];
const $ = (id) => document.getElementById(id);

export class DisplayControls {
  constructor(view, layers) {
    Object.assign(this, { view, layers });
    for (const id of [...SLIDERS, "channel"]) {
      $(id).addEventListener("input", () => this.apply());
    }
    for (const id of ["opacity", "outlined", "shown"]) {
      $(id).addEventListener("input", () => this.applyToMasks());
    }
    $("plain").addEventListener("click", () => this.reset());
    this.applyToMasks();
  }

  apply() {
    const numbers = SLIDERS.map((id) => [id, Number($(id).value)]);
    const { gamma, contrast, ...others } = Object.fromEntries(numbers);
    this.view.display.set({ ...others, contrast: 2 ** contrast, gamma: 2 ** gamma, channel: $("channel").value });
    $("plain").disabled = SLIDERS.every((id) => $(id).value === $(id).defaultValue) && $("channel").value === plain().channel;
  }

  applyToMasks() {
    const opacity = Number($("opacity").value);
    Object.assign(this.layers, { opacity, outlined: $("outlined").checked, shown: $("shown").checked });
    this.view.redraw();
  }

  reset() {
    for (const id of SLIDERS) {
      $(id).value = $(id).defaultValue;
    }
    $("channel").value = plain().channel;
    this.apply();
  }

  switchRedFree() {
    $("channel").value = $("channel").value === "green" ? "colour" : "green";
    this.apply();
  }

  switchLocalContrast() {
    $("clahe").value = Number($("clahe").value) ? 0 : LOCAL_CONTRAST;
    this.apply();
  }

  switchMasks(id) {
    $(id).checked = !$(id).checked;
    this.applyToMasks();
  }
}
