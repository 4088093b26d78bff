// The page: what is annotated, what the user does, and what is sent to the server.

import { colourAt } from "./colours.js";
import { connect } from "./controls.js";
import { DisplayControls } from "./display_controls.js";
import { Layers } from "./layers.js";
import { isBegun } from "./lists.js";
import { Mask } from "./mask.js";
import { Mouse } from "./mouse.js";
import { asSent, beginsAnother, isTaking, noPrompt } from "./prompt.js";
import { cancelPrediction, changeAbsent, checkPicture, pictureOf, predictMask, readMask, readProject, removeMask, writeMask } from "./server.js";
import { attempt, tell } from "./status.js";
import { Tools } from "./tools.js";
import { View, drawPrompt } from "./view.js";
import { WorkList } from "./worklist.js";

const STEPS = 50; // that can be undone
const REFINEMENTS = ["zoom", "tiles", "mirror"];
const $ = (id) => document.getElementById(id);

let project = { photographs: [], structures: [] };
let number = 0, structure = 0, image = null;
let saved = new Map(); // structure -> layer of its saved mask
let mask = null, layer = null, kept = null; // what is being drawn, and what of it is on the disk
let base = null, answer = null; // the mask before the prompt, and what the prompt adds to it or takes from it
let prompt = noPrompt(), predicted = prompt; // the prompt now, and the one that the mask was predicted from
let steps = [], undone = [], requests = 0;
let answering = null; // the prediction that is awaited; its mask is not saved yet
let opened = 0, shown = 0; // how often a photograph and a mask were opened
let ready = false; // whether the mask on the disk is shown: then it may change
let saving = Promise.resolve(); // what is written, one after the other; photograph and structure stay meanwhile

const layers = new Layers();
const view = new View($("view"), (context, unit) => {
  const others = [...saved].filter(([name]) => name !== current().name);
  layers.draw(context, others.map(([, other]) => other), layer);
  drawPrompt(context, unit, mouse.box ? { ...prompt, box: mouse.box } : prompt);
  tools.draw(context, unit, mouse.pointer);
});
const displayControls = new DisplayControls(view, layers);
const tools = new Tools({ view, begin: beginStroke, mask: () => mask, change: showPart });
const mouse = new Mouse(view, {
  mayBegin: () => image && ready,
  tool: () => tools.name,
  erases: () => tools.erases,
  beginStroke,
  cancelStroke: () => { takeBack(); undone = []; },
  stroke: (...stroke) => tools.stroke(...stroke),
  point: (...point) => tools.point(...point),
  box: (box) => predict(() => ({ box })),
  click,
});
const work = new WorkList({ open, choose, now: () => ({ ...project, number, structure }) });

const current = () => project.structures[structure];
const abandon = () => { requests++; attempt(cancelPrediction); }; // the answer that is awaited is not wanted any more
const colourOf = (name) => project.structures.find((one) => one.name === name).colour;

// --- the server ---------------------------------------------------------------------------------------------------

// The prompt is changed; with `begins` it begins anew, and the mask that is shown stays.
async function predict(change, begins = false) {
  remember();
  if (begins) {
    accept();
  }
  prompt = { ...prompt, ...change(prompt) };
  if (!(await awaitPrediction())) {
    undo();
  }
}

// Until the mask is here it counts as not saved.
async function awaitPrediction() {
  const own = showPrediction();
  answering = own;
  showButtons();
  const fits = await own;
  answering = answering === own ? null : answering;
  showButtons();
  return fits;
}

async function click(next) {
  const turn = shown;
  while (answering && base) { // whether it lies in the answer must be known
    await answering;
  }
  if (turn === shown) {
    predict(({ clicks }) => ({ clicks: [...clicks, next] }), beginsAnother(next, prompt, base, answer));
  }
}

// The next prompt adds to the mask that is shown, and leaves it as it is.
function accept() {
  [base, answer] = [mask, null];
  prompt = predicted = noPrompt();
}

function acceptAndGoOn() {
  if (mask && !answering) {
    remember();
    accept();
    tell(`${current().name}: the next prompt adds to the mask`);
    showButtons();
  }
}

// Take all pixels away; a mask on the disk stays until this is saved.
function empty() {
  if (mask && ready) {
    remember();
    abandon();
    accept();
    base = new Mask(image.width, image.height);
    draw(base);
  }
}

// The mask of the prompt; false where there is none, and the user has not gone on meanwhile.
async function showPrediction() {
  view.redraw();
  const turn = ++requests, begin = performance.now(), isWanted = () => turn === requests;
  tell("…");
  const refinement = Object.fromEntries(REFINEMENTS.map((name) => [name, $(name).checked]));
  const own = prompt, takes = isTaking(own, base), sent = { ...asSent(own, base), ...refinement };
  const asked = { structure: current().name, ...sent };
  const told = await attempt(() => predictMask(number, asked, (step) => isWanted() && tell(step)), isWanted);
  if (!isWanted() || !told) {
    return !isWanted();
  }
  predicted = own;
  answer = Mask.fromRle(told.mask);
  draw(base ? base.combined(answer, takes) : answer);
  const presence = told.presence === null ? "" : `, present with ${Math.round(100 * told.presence)} %`;
  const found = told.absent ? "predicted absent" : `predicted IoU ${told.predicted_iou.toFixed(2)}`;
  tell(`${current().name}: ${found}${presence} (${Math.round(performance.now() - begin)} ms)`);
  return true;
}

function save() {
  if (!isDirty()) {
    return;
  }
  saving = saving.then(async () => {
    while (answering) { // the mask of the last prompt is meant
      await answering;
    }
    const [name, now] = [current().name, mask];
    if (!now || now === kept) {
      return;
    }
    tell("saving …");
    const file = await attempt(() => writeMask(number, name, now.toRle()));
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
  if ($("remove").disabled || !confirm(`Take the mask of ${name} out of the data set?`)) {
    return;
  }
  write(() => removeMask(number, name), `${name}: removed`, () => {
    saved.delete(name);
    listDone(name, false);
  });
}

// Say that the structure is not in the photograph, or that this is not known.
function absent() {
  const name = current().name, isNow = !isAbsent(name);
  if ($("absent").disabled || !mayLeave()) {
    return;
  }
  write(() => changeAbsent(number, name, isNow), `${name}: ${isNow ? "marked as absent" : "not known"}`, () => {
    project.photographs[number].absent = changed(project.photographs[number].absent, name, isNow);
  });
}

// Change the files of what is shown, unless the user has gone on before its turn comes. Nothing is drawn meanwhile.
function write(change, told, show) {
  const turn = shown;
  ready = false;
  showButtons();
  saving = saving.then(async () => {
    if (turn === shown && (await attempt(change))) {
      show();
      startOver();
      tell(told);
      await showSaved();
    } else if (turn === shown) {
      ready = true;
      showButtons();
    }
  });
}

// --- what is being drawn ------------------------------------------------------------------------------------------

const isUnsaved = () => isDirty() || tools.isOpen;
const isDirty = () => mask !== kept || answering !== null;

function draw(next) {
  mask = next;
  layer = mask && mask.toCanvas(current().colour);
  showButtons();
}

const step = () => ({ prompt, mask, predicted, base, answer });

function remember() {
  steps.push(step());
  steps = steps.slice(-STEPS);
  undone = [];
}

// Undo a step. Where the user went on before its mask came, that is predicted now.
function takeBack() {
  if (steps.length) {
    undone.push(step());
    undo();
    predictAgain();
  }
}

// Take back the last undo.
function redo() {
  if (undone.length) {
    steps.push(step());
    restore(undone.pop());
    predictAgain();
  }
}

function predictAgain() {
  tell("");
  if (prompt !== predicted) {
    awaitPrediction();
  }
}

const undo = () => restore(steps.pop());

function restore(before) {
  abandon();
  ({ prompt, predicted, base, answer } = before);
  draw(before.mask);
}

function startOver() {
  abandon();
  shown++;
  ready = false;
  tell("");
  prompt = predicted = noPrompt();
  [steps, undone, kept, base, answer, answering] = [[], [], null, null, null, null];
  tools.dropPolygon();
  draw(null);
  work.show();
}

// Whether what is not saved may go.
const mayLeave = () => !mouse.gesture && (!isUnsaved() || confirm(`What was changed in the mask of ${current().name} is not saved. Go on without it?`));

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
  [image, saved] = [null, new Map()];
  startOver();
  view.show(image);
  tell("…");
  const turn = ++opened;
  const picture = Object.assign(new Image(), { src: pictureOf(index) });
  const loaded = await picture.decode().then(() => true, () => false);
  if (turn !== opened) {
    return;
  }
  image = loaded ? picture : null;
  view.show(image);
  if (loaded || (await attempt(() => checkPicture(index)))) {
    tell(`${project.photographs[index].name}${loaded ? "" : ": this browser cannot show its picture."}`, !loaded);
  }
  await showSaved();
}

// The saved masks of the photograph. That of the structure comes first and is gone on with.
async function showSaved() {
  const turn = shown, own = current().name, { done } = project.photographs[number];
  for (const name of [own, ...done.filter((other) => other !== own && !saved.has(other))]) {
    const isOnDisk = done.includes(name), rle = isOnDisk && (await attempt(() => readMask(number, name)));
    if (turn !== shown) {
      return;
    }
    const values = rle ? Mask.fromRle(rle) : null;
    if (values) {
      saved.set(name, values.toCanvas(colourOf(name)));
    }
    if (name === own) {
      [kept, base, ready] = [values, values, !isOnDisk || values !== null]; // one that cannot be read is not replaced
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
  work.show();
  showButtons();
}

function showButtons() {
  $("structure_prompt").disabled = !image || !ready || !current().known;
  $("undo").disabled = !steps.length;
  $("redo").disabled = !undone.length;
  $("save").disabled = !isDirty();
  $("accept").disabled = $("empty").disabled = !mask || answering !== null;
  $("remove").disabled = !isListed(current().name) || !ready;
  $("absent").disabled = isListed(current().name) || !ready;
  $("absent").setAttribute("aria-pressed", String(isAbsent(current().name)));
  view.redraw();
}

// --- pixels that are drawn ----------------------------------------------------------------------------------------

function beginStroke() {
  remember();
  abandon();
  tell("");
  if (mask) {
    mask = mask.copy(); // of which there is a layer
  } else {
    draw(new Mask(image.width, image.height));
  }
  accept();
  showButtons();
}

// A part of the mask that has changed.
function showPart(part) {
  mask.drawInto(layer, current().colour, part);
  view.redraw();
}

// --- buttons and keys ---------------------------------------------------------------------------------------------

const ACTIONS = {
  structure_prompt: () => !$("structure_prompt").disabled && predict(() => ({ structure_prompt: true })),
  accept: acceptAndGoOn,
  empty,
  undo: () => tools.dropCorner() || takeBack(),
  redo,
  clear: () => saving.then(() => mayLeave() && (startOver(), showSaved())),
  save: () => tools.mustClose() || save(),
  remove,
  absent,
  previous: () => open(work.next(number, -1)),
  next: () => open(work.next(number, 1)),
};

connect({ mouse, actions: ACTIONS, tools, displayControls, work, choose, escape: () => (answering ? attempt(cancelPrediction) : ACTIONS.clear()) });
window.addEventListener("beforeunload", (event) => isUnsaved() && event.preventDefault());

project = (await attempt(readProject)) ?? project;
project.structures.forEach((one, i) => { one.colour = colourAt(i); });
if (project.photographs.length) {
  document.title = `Annotate: ${project.out}`;
  const first = project.photographs.findIndex((one) => !isBegun(one));
  await open(Math.max(0, first));
}
