// How a photograph is shown: one channel or all, local contrast, brightness, contrast and gamma. Masks and prompts are
// of the photograph itself.

import { equalise } from "./clahe.js";

// channel: colour, red, green (red-free) or blue; brightness: -1 to 1, added; contrast: a factor; gamma: above 1 lightens
// dark parts; clahe: limit of the local contrast, 0 for none.
export const plain = () => ({ channel: "colour", brightness: 0, contrast: 1, gamma: 1, clahe: 0 });

export const isPlain = (settings) => Object.entries(plain()).every(([name, value]) => settings[name] === value);

// Change the pixels of a picture, RGBA row by row.
export function adjust(pixels, width, height, settings) {
  const { channel, clahe } = settings;
  if (channel !== "colour") {
    spread(pixels, ["red", "green", "blue"].indexOf(channel));
  }
  if (clahe > 0) {
    equaliseLightness(pixels, width, height, clahe);
  }
  const table = levels(settings);
  for (let i = 0; i < pixels.length; i += 4) {
    pixels[i] = table[pixels[i]];
    pixels[i + 1] = table[pixels[i + 1]];
    pixels[i + 2] = table[pixels[i + 2]];
  }
}

// One channel as grey.
function spread(pixels, channel) {
  for (let i = 0; i < pixels.length; i += 4) {
    pixels[i] = pixels[i + 1] = pixels[i + 2] = pixels[i + channel];
  }
}

// Colours keep their differences: what the luma (ITU-R BT.601) gains, each channel gains.
function equaliseLightness(pixels, width, height, limit) {
  const before = new Uint8Array(width * height);
  for (let i = 0, j = 0; j < before.length; i += 4, j++) {
    before[j] = 0.299 * pixels[i] + 0.587 * pixels[i + 1] + 0.114 * pixels[i + 2] + 0.5;
  }
  const after = before.slice();
  equalise(after, width, height, limit);
  for (let i = 0, j = 0; j < before.length; i += 4, j++) {
    const gain = after[j] - before[j]; // the array clamps
    pixels[i] += gain;
    pixels[i + 1] += gain;
    pixels[i + 2] += gain;
  }
}

// New value of each level.
export function levels({ brightness, contrast, gamma }) {
  return Uint8ClampedArray.from({ length: 256 }, (_, i) => 255 * (((i / 255) ** (1 / gamma) - 0.5) * contrast + 0.5 + brightness));
}
