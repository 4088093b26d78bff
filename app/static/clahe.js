// Contrast limited adaptive histogram equalisation (Zuiderveld 1994), as OpenCV's createCLAHE does it.

const TILES = 8; // in each direction
const LEVELS = 256;

// values: Uint8Array of width x height, row by row; it is changed. limit: of the contrast, as OpenCV's clipLimit.
export function equalise(values, width, height, limit) {
  const isWhole = width % TILES === 0 && height % TILES === 0; // else OpenCV widens both sides, also one that would fit
  const [tileWidth, tileHeight] = [width, height].map((side) => (isWhole ? side / TILES : Math.floor(side / TILES) + 1));
  const tables = new Uint8Array(TILES * TILES * LEVELS);
  for (let tile = 0; tile < TILES * TILES; tile++) {
    const left = (tile % TILES) * tileWidth, top = Math.floor(tile / TILES) * tileHeight;
    const counts = countLevels(values, width, height, [left, top, tileWidth, tileHeight]);
    clip(counts, Math.max(1, Math.floor(limit * tileWidth * tileHeight / LEVELS)));
    accumulate(counts, tables.subarray(tile * LEVELS, (tile + 1) * LEVELS), tileWidth * tileHeight);
  }
  interpolate(values, width, height, tables, between(width, tileWidth), between(height, tileHeight));
}

// Outside the picture it is mirrored at its last row and column.
function countLevels(values, width, height, [left, top, tileWidth, tileHeight]) {
  const counts = new Int32Array(LEVELS);
  for (let y = top; y < top + tileHeight; y++) {
    const row = mirrored(y, height) * width;
    for (let x = left; x < left + tileWidth; x++) {
      counts[values[row + (x < width ? x : mirrored(x, width))]]++;
    }
  }
  return counts;
}

const mirrored = (place, size) => (place < size ? place : Math.max(0, 2 * size - 2 - place));

// What lies above the limit is spread over all levels.
function clip(counts, limit) {
  let above = 0;
  for (let i = 0; i < LEVELS; i++) {
    above += Math.max(0, counts[i] - limit);
    counts[i] = Math.min(counts[i], limit);
  }
  const each = Math.floor(above / LEVELS);
  let rest = above - each * LEVELS;
  for (let i = 0; i < LEVELS; i++) {
    counts[i] += each;
  }
  const step = Math.max(1, Math.floor(LEVELS / Math.max(1, rest)));
  for (let i = 0; i < LEVELS && rest > 0; i += step, rest--) {
    counts[i]++;
  }
}

function accumulate(counts, table, total) {
  for (let i = 0, sum = 0; i < LEVELS; i++) {
    sum += counts[i];
    table[i] = Math.min(255, Math.round(sum * (LEVELS - 1) / total));
  }
}

// For each place along a side: the tiles before and after it, and the share of the second one.
function between(size, tileSize) {
  const first = new Int32Array(size), second = new Int32Array(size), share = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    const at = i / tileSize - 0.5, before = Math.floor(at);
    [first[i], second[i], share[i]] = [Math.max(0, before), Math.min(TILES - 1, before + 1), at - before];
  }
  return { first, second, share };
}

function interpolate(values, width, height, tables, columns, rows) {
  for (let y = 0, i = 0; y < height; y++) {
    const upper = rows.first[y] * TILES * LEVELS, lower = rows.second[y] * TILES * LEVELS, down = rows.share[y];
    for (let x = 0; x < width; x++, i++) {
      const left = columns.first[x] * LEVELS + values[i], right = columns.second[x] * LEVELS + values[i];
      const across = columns.share[x];
      const above = tables[upper + left] * (1 - across) + tables[upper + right] * across;
      const below = tables[lower + left] * (1 - across) + tables[lower + right] * across;
      values[i] = above * (1 - down) + below * down + 0.5;
    }
  }
}
