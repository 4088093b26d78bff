// The page: what is annotated, what the user does, and what the server is asked.

import { Mask } from "./mask.js";
import { isBegun, listPhotographs, listStructures } from "./lists.js";
import { ask as askServer, changeAbsent, readMask, readProject, removeMask, writeMask } from "./server.js";
import { View, drawBrush, drawLayer, drawPrompt } from "./view.js";

const STEPS = 50; // that can be undone
const DRAG = 5; // screen pixels from which on a press is a box
const $ = (id) => document.getElementById(id);

let project = { photographs: [], structures: [] };
let number = 0, structure = 0, image = null;
let saved = new Map(); // structure -> layer of its saved mask
let mask = null, layer = null, kept = null; // what is being drawn, and what of it is on the disk
let prompt = noPrompt(), answered = prompt; // what is asked for, and what the mask answers
let steps = [], asked = 0, gesture = null, pointer = null, space = false;
let shown = 0, ready = false; // how often a mask was opened, and whether the one on the disk is shown: then it may change
let saving = Promise.resolve(); // what is written, one after the other; photograph and structure stay meanwhile

const view = new View($("view"), (context, unit) => {
  if ($("shown").checked) {
    for (const [name, other] of saved) {
      if (name !== current().name) {
        drawLayer(context, other, 0.35);
      }
    }
    if (layer) {
      drawLayer(context, layer, 0.5);
    }
  }
  drawPrompt(context, unit, gesture?.box ? { ...prompt, box: gesture.box } : prompt);
  if (pointer && $("brush").checked) {
    drawBrush(context, unit, pointer, radius());
  }
});

function noPrompt() {
  return { structure_prompt: false, box: null, clicks: [] };
}

const current = () => project.structures[structure];
const radius = () => Number($("radius").value);
const colourOf = (name) => project.structures.find((one) => one.name === name).colour;

// --- the server ---------------------------------------------------------------------------------------------------

// Run what talks to the server; an error is told, and nothing is lost.
async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    tell(error instanceof TypeError ? `The server does not answer (${error.message}): is it running?` : error.message, true);
    return undefined;
  }
}

function tell(text, error = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", error);
}

async function ask(next) {
  remember();
  prompt = next;
  if (!(await showAnswer())) {
    undo();
  }
}

// The mask that the prompt asks for; false where there is none, and the user has not gone on meanwhile.
async function showAnswer() {
  view.redraw();
  const turn = ++asked, begin = performance.now();
  tell("…");
  const looks = Object.fromEntries(["zoom", "tiles", "mirror"].map((name) => [name, $(name).checked]));
  const own = prompt;
  const answer = await attempt(() => askServer(number, { structure: current().name, ...own, ...looks }));
  if (turn !== asked || !answer) {
    return turn !== asked;
  }
  answered = own;
  draw(Mask.fromRle(answer.mask));
  const presence = answer.presence === null ? "" : `, present with ${Math.round(100 * answer.presence)} %`;
  const found = answer.absent ? "held not to be in this photograph" : `predicted IoU ${answer.predicted_iou.toFixed(2)}`;
  tell(`${current().name}: ${found}${presence} (${Math.round(performance.now() - begin)} ms)`);
  return true;
}

function save() {
  if (!mask || !isDirty()) {
    return;
  }
  const [name, now, rle] = [current().name, mask, mask.toRle()];
  saving = saving.then(async () => {
    tell("saving …");
    const file = await attempt(() => writeMask(number, name, rle));
    if (file) {
      saved.set(name, now.toCanvas(current().colour));
      kept = now;
      listDone(name, true);
    }
    if (file !== undefined) {
      tell(file ? `saved: ${file}` : "not saved");
    }
  });
}

function remove() {
  const name = current().name;
  if (!isListed(name) || !confirm(`Take the mask of ${name} out of the data set?`)) {
    return;
  }
  saving = saving.then(async () => {
    if (await attempt(() => removeMask(number, name))) {
      saved.delete(name);
      listDone(name, false);
      startOver();
      tell(`${name}: removed`);
      await showSaved();
    }
  });
}

// Say that the structure is not in the photograph, or that this is not known.
function absent() {
  const name = current().name, isNow = !isAbsent(name);
  if ($("absent").disabled || !mayLeave()) {
    return;
  }
  saving = saving.then(async () => {
    if (await attempt(() => changeAbsent(number, name, isNow))) {
      const photograph = project.photographs[number];
      photograph.absent = changed(photograph.absent, name, isNow);
      startOver();
      tell(`${name}: ${isNow ? "is not in this photograph" : "not known"}`);
      await showSaved();
    }
  });
}

// --- what is being drawn ------------------------------------------------------------------------------------------

const isDirty = () => mask !== kept;

function draw(next) {
  mask = next;
  layer = mask && mask.toCanvas(current().colour);
  showButtons();
}

function remember() {
  steps.push({ prompt, mask, answered });
  steps = steps.slice(-STEPS);
}

// Take back a step. Where the user went on before its answer came, that is asked for now.
function takeBack() {
  if (steps.length) {
    undo();
    tell("");
    if (prompt !== answered) {
      showAnswer();
    }
  }
}

function undo() {
  asked++;
  ({ prompt, answered } = steps.at(-1));
  draw(steps.pop().mask);
}

function startOver() {
  asked++;
  shown++;
  ready = false;
  tell("");
  prompt = answered = noPrompt();
  [steps, kept] = [[], null];
  draw(null);
  showLists();
}

// Whether what is not saved may go.
const mayLeave = () => !gesture && (!isDirty() || confirm(`What was changed in the mask of ${current().name} is not saved. Go on without it?`));

async function choose(index) {
  await saving;
  if (index === structure || !project.structures[index] || !mayLeave()) {
    return;
  }
  structure = index;
  startOver();
  await showSaved();
}

async function open(index) {
  await saving;
  if (!project.photographs[index] || !mayLeave()) {
    return;
  }
  number = index;
  image = null;
  saved = new Map();
  startOver();
  view.show(image);
  tell("…");
  const turn = shown;
  const picture = Object.assign(new Image(), { src: `/api/photographs/${index}/image` });
  const loaded = await picture.decode().then(() => true, () => false);
  if (turn !== shown) {
    return;
  }
  image = loaded ? picture : null;
  view.show(image);
  tell(loaded ? project.photographs[index].name : `${project.photographs[index].name} cannot be read; the server says why.`, !loaded);
  await showSaved();
}

// The saved masks of the photograph. That of the structure comes first and is gone on with.
async function showSaved() {
  const turn = shown, own = current().name, { done } = project.photographs[number];
  for (const name of [own, ...done.filter((other) => other !== own && !saved.has(other))]) {
    const rle = done.includes(name) && (await attempt(() => readMask(number, name)));
    if (turn !== shown) {
      return;
    }
    const values = rle ? Mask.fromRle(rle) : null;
    if (values) {
      saved.set(name, values.toCanvas(colourOf(name)));
    }
    if (name === own) {
      [kept, ready] = [values, true];
      draw(values);
    }
  }
  view.redraw();
}

// --- lists and buttons --------------------------------------------------------------------------------------------

const isListed = (name) => project.photographs[number].done.includes(name);
const isAbsent = (name) => project.photographs[number].absent.includes(name);
const changed = (names, name, isIn) => names.filter((other) => other !== name).concat(isIn ? [name] : []);

function listDone(name, isDone) {
  const photograph = project.photographs[number];
  photograph.done = changed(photograph.done, name, isDone);
  photograph.absent = changed(photograph.absent, name, isAbsent(name) && !isDone);
  showLists();
  showButtons();
}

function showLists() {
  const { photographs, structures } = project;
  $("progress").textContent = `${photographs.filter(isBegun).length} / ${photographs.length}`;
  listPhotographs($("photographs"), photographs, number, open);
  listStructures($("structures"), structures, photographs[number], structure, choose);
}

function showButtons() {
  $("name").disabled = !image || !ready || !current().known;
  $("undo").disabled = !steps.length;
  $("save").disabled = !mask || !isDirty();
  $("remove").disabled = !isListed(current().name);
  $("absent").disabled = isListed(current().name) || !ready;
  $("absent").setAttribute("aria-pressed", String(isAbsent(current().name)));
  view.redraw();
}

// --- mouse --------------------------------------------------------------------------------------------------------

const isInside = ({ x, y }) => x >= 0 && y >= 0 && x < image.width && y < image.height;

function boxOf(from, to) {
  const clamp = (value, most) => Math.min(most, Math.max(0, value));
  const xs = [from.x, to.x].map((x) => clamp(x, image.width)), ys = [from.y, to.y].map((y) => clamp(y, image.height));
  return [Math.floor(Math.min(...xs)), Math.floor(Math.min(...ys)), Math.ceil(Math.max(...xs)), Math.ceil(Math.max(...ys))];
}

function press(event) {
  if (!image || !ready || gesture) {
    return;
  }
  $("view").focus();
  $("view").setPointerCapture(event.pointerId);
  const from = view.place(event), erases = event.button === 2 || event.altKey;
  if (space || event.button === 1) {
    gesture = { kind: "move" };
  } else if ($("brush").checked) {
    remember();
    asked++;
    tell("");
    draw(mask ? mask.copy() : new Mask(image.width, image.height));
    gesture = { kind: "stroke", value: erases ? 0 : 1, last: from };
    stroke(from);
  } else {
    gesture = { kind: "prompt", from, foreground: !erases, start: [event.offsetX, event.offsetY] };
  }
}

function stroke(to) {
  const { last, value } = gesture, distance = Math.hypot(to.x - last.x, to.y - last.y);
  const count = Math.max(1, Math.ceil(distance / Math.max(1, radius() / 3)));
  for (let i = 1; i <= count; i++) {
    const part = mask.paint(last.x + (to.x - last.x) * i / count, last.y + (to.y - last.y) * i / count, radius(), value);
    mask.drawInto(layer, current().colour, part);
  }
  gesture.last = to;
  view.redraw();
}

function drag(event) {
  pointer = image && view.place(event);
  if (gesture?.kind === "move") {
    view.move(event.movementX, event.movementY);
  } else if (gesture?.kind === "stroke") {
    stroke(pointer);
  } else if (gesture?.kind === "prompt" && gesture.foreground) {
    const [x, y] = gesture.start;
    if (gesture.box || Math.hypot(event.offsetX - x, event.offsetY - y) >= DRAG) {
      gesture.box = boxOf(gesture.from, pointer);
    }
  }
  view.redraw();
}

function release() {
  const done = gesture;
  gesture = null;
  if (done?.kind !== "prompt") {
    return;
  }
  const [x0, y0, x1, y1] = done.box ?? [0, 0, 0, 0];
  if (x0 < x1 && y0 < y1) {
    ask({ ...prompt, box: done.box });
  } else if (!done.box && isInside(done.from)) {
    const click = { x: Math.floor(done.from.x), y: Math.floor(done.from.y), foreground: done.foreground };
    ask({ ...prompt, clicks: [...prompt.clicks, click] });
  }
}

$("view").addEventListener("pointerdown", press);
$("view").addEventListener("pointermove", drag);
$("view").addEventListener("pointerup", release);
$("view").addEventListener("lostpointercapture", () => { gesture = null; });
$("view").addEventListener("pointerleave", () => { pointer = null; view.redraw(); });
$("view").addEventListener("contextmenu", (event) => event.preventDefault());
$("view").addEventListener("wheel", (event) => {
  event.preventDefault();
  view.zoom(Math.exp(-event.deltaY / 400), event);
}, { passive: false });

// --- keys and buttons ---------------------------------------------------------------------------------------------

const ACTIONS = {
  name: () => !$("name").disabled && ask({ ...prompt, structure_prompt: true }),
  undo: takeBack,
  clear: () => saving.then(() => mayLeave() && (startOver(), showSaved())),
  save,
  remove,
  absent,
};
const KEYS = { n: "name", z: "undo", s: "save", a: "absent", Delete: "remove", Escape: "clear" };

for (const [id, action] of Object.entries(ACTIONS)) {
  $(id).addEventListener("click", () => gesture || action());
}
for (const id of ["shown", "prompt", "brush", "radius"]) {
  $(id).addEventListener("input", view.redraw);
}

function widen(by) {
  $("radius").value = radius() + by;
}

document.addEventListener("keydown", (event) => {
  const control = event.ctrlKey || event.metaKey;
  const slides = event.target.matches("input[type=range]") && event.key.startsWith("Arrow");
  if (gesture || slides || event.altKey || (control && !"zs".includes(event.key))) {
    return;
  }
  const others = {
    b: () => { $($("brush").checked ? "prompt" : "brush").checked = true; },
    v: () => { $("shown").checked = !$("shown").checked; },
    "[": () => widen(-1),
    "]": () => widen(1),
    ArrowLeft: () => open(number - 1),
    ArrowRight: () => open(number + 1),
    " ": () => { space = true; },
  };
  const action = ACTIONS[KEYS[event.key]] ?? others[event.key];
  const inView = event.target === $("view") || event.target === document.body;
  if (/^[1-9]$/.test(event.key)) {
    choose(Number(event.key) - 1);
  } else if (action && (inView || event.key !== " ")) {
    event.preventDefault();
    action();
    view.redraw();
  }
});
document.addEventListener("keyup", (event) => { space = space && event.key !== " "; });
window.addEventListener("beforeunload", (event) => isDirty() && event.preventDefault());

project = (await attempt(readProject)) ?? project;
if (project.photographs.length) {
  document.title = `Annotate: ${project.out}`;
  const first = project.photographs.findIndex((one) => !isBegun(one));
  await open(Math.max(0, first));
}
