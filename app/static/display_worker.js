// Adjusts photographs beside the page, so that it never waits: first a small picture, then one of full size.

import { adjust } from "./pixels.js";

const QUICK = 1e6; // pixels of the small picture

let image = null, wanted = null, working = false;

onmessage = ({ data }) => {
  if (data.image) {
    image?.close();
    image = data.image;
  }
  wanted = data;
  if (!working) {
    work();
  }
};

// What was asked for last; what was asked for before it is left out.
async function work() {
  working = true;
  try {
    await drawWanted();
  } catch (error) {
    wanted = null;
    postMessage({ error: error.message });
  } finally {
    working = false;
  }
}

async function drawWanted() {
  while (wanted) {
    const own = wanted, share = Math.min(1, Math.sqrt(QUICK / (image.width * image.height)));
    for (const scale of new Set([share, 1])) {
      if (wanted === own) {
        const picture = draw(own.settings, scale);
        postMessage({ turn: own.turn, picture }, [picture]);
        await new Promise((done) => setTimeout(done)); // newer messages come in
      }
    }
    wanted = wanted === own ? null : wanted;
  }
}

function draw(settings, scale) {
  const width = Math.max(1, Math.round(image.width * scale)), height = Math.max(1, Math.round(image.height * scale));
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  adjust(pixels.data, width, height, settings);
  context.putImageData(pixels, 0, 0);
  return canvas.transferToImageBitmap();
}
