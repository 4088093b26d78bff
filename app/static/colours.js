// Colours of structures, as many as are needed: each is as far as can be from those before it, by itself and half
// see-through on the fundus, and none is like what a photograph of it shows. Distances are in OKLab (Ottosson 2020), where
// equal ones look alike.

const FUNDUS = ["#000000", "#3a1408", "#7a2f16", "#a8481f", "#c8642d", "#e05038", "#e08a4c", "#f0c080", "#f8e0b0"]; // dark to disc
const BEHIND = "#b0502a"; // of most of it
const FROM_FUNDUS = 0.18, LEAST_CHROMA = 0.09, LEAST_LIGHTNESS = 0.66; // also readable on a grey picture
const LEVELS = [0, 32, 64, 96, 128, 160, 192, 224, 255];

const colours = []; // #rrggbb, in order
let candidates = null; // [{hex, seen, far: distance to the nearest colour that is taken}]

// #rrggbb of structure number `index`; it does not depend on how many there are.
export function colourAt(index) {
  candidates ??= allowed();
  while (colours.length <= index) {
    const best = candidates.reduce((a, b) => (b.far > a.far ? b : a));
    colours.push(best.hex);
    for (const one of candidates) {
      one.far = Math.min(one.far, distance(one.seen, best.seen));
    }
  }
  return colours[index];
}

function allowed() {
  const fundus = FUNDUS.map(toOklab), found = [];
  for (const red of LEVELS) {
    for (const green of LEVELS) {
      for (const blue of LEVELS) {
        const hex = hexOf([red, green, blue]), seen = [toOklab(hex), toOklab(blended(hex))];
        const far = Math.min(...fundus.map((other) => distance(seen, [other, other])));
        const [[lightness, a, b]] = seen;
        if (lightness >= LEAST_LIGHTNESS && Math.hypot(a, b) >= LEAST_CHROMA && far >= FROM_FUNDUS) {
          found.push({ hex, seen, far });
        }
      }
    }
  }
  return found;
}

const valuesOf = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const hexOf = (values) => `#${values.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
const blended = (hex) => hexOf(valuesOf(hex).map((value, i) => (value + valuesOf(BEHIND)[i]) >> 1));

// Of two colours by themselves, and of both half see-through, which brings them half as far apart.
function distance([full, mixed], [otherFull, otherMixed]) {
  const between = (x, y) => Math.hypot(...x.map((value, i) => value - y[i]));
  return Math.min(between(full, otherFull), 2 * between(mixed, otherMixed));
}

// [lightness, a, b] of #rrggbb.
export function toOklab(hex) {
  const [red, green, blue] = valuesOf(hex).map((value) => linear(value / 255));
  const l = Math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue);
  const m = Math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue);
  const s = Math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
