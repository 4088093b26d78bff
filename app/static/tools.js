// The tools that draw pixels themselves: brush, polygon and fill; each adds to the mask, or erases.

import { connected, fillPolygon, setPlaces } from "./regions.js";
import { tell } from "./status.js";
import { drawBrush, drawPolygon } from "./view.js";

const TOOLS = ["prompt", "brush", "polygon", "fill"];
const CLOSE = 10; // screen pixels from the first corner within which a click closes a polygon
const DISC = 1 / 8; // of the photograph's shorter side: the largest radius, about that of an optic disc
const STEP = 1.15; // from one radius to the next
const $ = (id) => document.getElementById(id);

export class Tools {
  // page: {view, begin(), mask(), change(part)}: begin makes the mask ready to be changed, as one step to undo.
  constructor(page) {
    Object.assign(this, { page, corners: [], size: 6 });
    for (const name of [...TOOLS, "adds", "erasing"]) {
      $(name).addEventListener("input", () => page.view.redraw());
    }
    $("radius").addEventListener("input", () => this.setRadius(this.largest ** (Number($("radius").value) / 100)));
    this.setRadius(this.size);
  }

  get name() {
    return TOOLS.find((name) => $(name).checked);
  }

  get erases() {
    return $("erasing").checked;
  }

  // Radii in pixels of the photograph.
  get largest() {
    const { image } = this.page.view;
    return image ? Math.max(8, Math.round(Math.min(image.width, image.height) * DISC)) : 60;
  }

  get radius() {
    return Math.min(this.size, this.largest);
  }

  setRadius(size) {
    this.size = Math.min(this.largest, Math.max(1, Math.round(size)));
    $("radius").value = 100 * Math.log(this.size) / Math.log(this.largest);
    $("diameter").textContent = `${2 * this.size} px`;
    this.page.view.redraw();
  }

  widen(steps) {
    const next = Math.round(this.radius * STEP ** steps);
    this.setRadius(next === this.radius ? next + steps : next);
  }

  choose(name) {
    $($(name).checked ? "prompt" : name).checked = true;
    this.page.view.redraw();
  }

  switchErasing() {
    $(this.erases ? "adds" : "erasing").checked = true;
    this.page.view.redraw();
  }

  stroke(from, to, value) {
    const distance = Math.hypot(to.x - from.x, to.y - from.y);
    const count = Math.max(1, Math.ceil(distance / Math.max(1, this.radius / 3)));
    for (let i = 1; i <= count; i++) {
      const x = from.x + (to.x - from.x) * i / count, y = from.y + (to.y - from.y) * i / count;
      this.page.change(this.page.mask().paint(x, y, this.radius, value));
    }
  }

  // A click of polygon or fill, at a place of the photograph.
  point(place, value) {
    if (this.name === "fill") {
      this.fill(Math.floor(place.x), Math.floor(place.y), value);
    } else {
      this.addCorner(place, value);
    }
  }

  // Add: what the mask encloses around a place. Erase: the connected part of the mask that is there.
  fill(x, y, value) {
    const { page } = this, { image } = page.view, mask = page.mask();
    const isInside = x >= 0 && y >= 0 && x < image.width && y < image.height;
    if (!mask || !isInside || mask.values[y * mask.width + x] === value) {
      tell(value ? "fill: click where the mask encloses a place without it" : "fill, erasing: click on a part of the mask", true);
      return;
    }
    const { places, atBorder } = connected(mask, x, y);
    if (value && atBorder) {
      tell("fill: the mask does not enclose this place; close the gap with the brush, or draw a polygon", true);
      return;
    }
    page.begin();
    page.change(setPlaces(page.mask(), places, value));
  }

  // --- polygon ----------------------------------------------------------------------------------------------------

  get isOpen() {
    return this.corners.length > 0;
  }

  addCorner(place, value) {
    const { corners } = this, reach = CLOSE / this.page.view.scale;
    const isNear = (other) => other && Math.hypot(place.x - other.x, place.y - other.y) <= reach;
    if (corners.length > 2 && (isNear(corners[0]) || isNear(corners.at(-1)))) { // the second click of a double one, too
      this.close();
    } else if (!isNear(corners.at(-1))) {
      this.value = this.isOpen ? this.value : value;
      corners.push(place);
      tell(corners.length < 3 ? "polygon: click on its corners" : "polygon: click on the first corner, or press Enter, to close it");
    }
    this.page.view.redraw();
  }

  close() {
    if (this.corners.length > 2) {
      const corners = this.corners;
      this.corners = [];
      this.page.begin();
      this.page.change(fillPolygon(this.page.mask(), corners, this.value));
    }
  }

  // Whether there was a corner to take back.
  dropCorner() {
    const dropped = this.corners.pop();
    this.page.view.redraw();
    return Boolean(dropped);
  }

  // Whether there was a polygon that was not closed.
  dropPolygon() {
    const wasOpen = this.isOpen;
    this.corners = [];
    this.page.view.redraw();
    return wasOpen;
  }

  // Whether a polygon is still open; the user is told.
  mustClose() {
    if (this.isOpen) {
      tell("The polygon is still open: close it with Enter, or drop it with Escape, and save then.", true);
    }
    return this.isOpen;
  }

  draw(context, unit, pointer) {
    if (pointer && this.name === "brush") {
      drawBrush(context, unit, pointer, this.radius);
    }
    if (this.isOpen) {
      drawPolygon(context, unit, pointer && this.name === "polygon" ? [...this.corners, pointer] : this.corners);
    }
  }
}
