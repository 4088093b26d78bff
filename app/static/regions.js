// Regions of a mask: polygons, and what is connected. Each function sets pixels and returns the part {x, y, width, height}
// that has changed.

const NOTHING = { x: 0, y: 0, width: 0, height: 0 };

// The pixels whose centres lie in a polygon; where it crosses itself, the even-odd rule holds. points: [{x, y}].
export function fillPolygon(mask, points, value) {
  const ys = points.map(({ y }) => y), xs = points.map(({ x }) => x);
  const top = Math.max(0, Math.floor(Math.min(...ys))), bottom = Math.min(mask.height, Math.ceil(Math.max(...ys)));
  const left = Math.max(0, Math.floor(Math.min(...xs))), right = Math.min(mask.width, Math.ceil(Math.max(...xs)));
  for (let y = top; y < bottom; y++) {
    const crossings = crossingsOf(points, y + 0.5);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const from = Math.max(0, Math.ceil(crossings[i] - 0.5)), to = Math.min(mask.width, Math.ceil(crossings[i + 1] - 0.5));
      if (from < to) {
        mask.values.fill(value, y * mask.width + from, y * mask.width + to);
      }
    }
  }
  return right > left && bottom > top ? { x: left, y: top, width: right - left, height: bottom - top } : NOTHING;
}

// Where a row meets the outline, from left to right.
function crossingsOf(points, y) {
  const found = [];
  points.forEach((a, i) => {
    const b = points[(i + 1) % points.length];
    if ((a.y <= y) !== (b.y <= y)) {
      found.push(a.x + (y - a.y) * (b.x - a.x) / (b.y - a.y));
    }
  });
  return found.sort((a, b) => a - b);
}

// The places (numbers of pixels) that are connected to a pixel by their sides and have its value; whether they meet the
// border of the photograph.
export function connected(mask, x, y) {
  const { width, height, values } = mask, own = values[y * width + x], seen = new Uint8Array(values.length);
  const places = new Int32Array(values.length);
  let count = 0, atBorder = false;
  const visit = (place) => {
    if (values[place] === own && !seen[place]) {
      seen[place] = 1;
      places[count++] = place;
    }
  };
  visit(y * width + x);
  for (let i = 0; i < count; i++) {
    const place = places[i], column = place % width;
    const isInner = column > 0 && column < width - 1 && place >= width && place < width * (height - 1);
    atBorder ||= !isInner;
    if (isInner || column > 0) {
      visit(place - 1);
    }
    if (isInner || column < width - 1) {
      visit(place + 1);
    }
    visit(place - width); // above and below the photograph there is nothing to be seen
    visit(place + width);
  }
  return { places: places.subarray(0, count), atBorder };
}

export function setPlaces(mask, places, value) {
  let left = mask.width, right = 0, top = mask.height, bottom = 0;
  for (const place of places) {
    const x = place % mask.width, y = (place - x) / mask.width;
    mask.values[place] = value;
    [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
  }
  return places.length ? { x: left, y: top, width: right - left, height: bottom - top } : NOTHING;
}
