// As much of a browser as the annotation page needs, without a picture: elements that take everything.

const nothing = new Proxy(function () {}, {
  get: (_, key) => (key === Symbol.toPrimitive ? () => 0 : key === "then" ? undefined : nothing),
  apply: () => nothing,
  construct: () => nothing,
});

function element() {
  const listeners = {};
  const own = {
    textContent: "", value: "6", checked: false, disabled: false,
    addEventListener: (type, action) => (listeners[type] ??= []).push(action),
    fire: (type, event = {}) => (listeners[type] ?? []).map((action) => action(event)),
    matches: () => false,
  };
  const get = (target, key) => (key in target ? target[key] : typeof key === "symbol" || key === "then" ? undefined : nothing);
  return new Proxy(own, { get });
}

const elements = new Map();
const find = (id) => elements.get(id) ?? elements.set(id, element()).get(id);
find("photograph_search").value = find("structure_search").value = "";
const document = Object.assign(element(), { getElementById: find, createElement: element, body: element() });
const window = element();
const picture = { width: 4, height: 3, decode: () => Promise.resolve() };

Object.assign(globalThis, { document, window });
Object.assign(globalThis, {
  localStorage: { getItem: () => null, setItem: () => {} },
  requestAnimationFrame: () => 0,
  cancelAnimationFrame: () => {},
  clearInterval: () => {},
  ResizeObserver: class { observe() {} },
  Image: class { constructor() { Object.assign(this, picture); } },
  ImageData: class { constructor(width, height) { this.data = new Uint8ClampedArray(4 * width * height); } },
});

export const press = (key) => document.fire("keydown", { key, target: document.body, preventDefault() {} });
export const status = () => find("status").textContent;
export const isDisabled = (id) => find(id).disabled;
// Whether the browser asks before the page is left.
export const asksBeforeLeaving = () => {
  let asks = false;
  window.fire("beforeunload", { preventDefault: () => { asks = true; } });
  return asks;
};
// Until all that can be done without another reply of the server is done.
export const settle = () => new Promise((go) => setTimeout(go, 20));

// A server with two photographs of 4 x 3 pixels and an unmarked vessel. `sent` are the requests; a prompt waits for `answer`.
// `holds` has the replies to a method wait for `release`, `fails` has those at a path be errors.
const held = { method: null, replies: [] }, faults = new Map();
const project = {
  key: "k", out: "o",
  photographs: ["eye", "other"].map((name) => ({ name, done: [], absent: [] })),
  structures: [{ name: "vessel", known: true }],
};
export const server = {
  sent: [], answer: null, tick: null, photographs: project.photographs,
  holds: (method) => { held.method = method; },
  release: () => { held.method = null; held.replies.splice(0).forEach((go) => go()); },
  fails: (path, detail) => faults.set(path, detail),
};
const REPLIES = {
  GET: (path) => reply(path.startsWith("/api/answers") ? { kind: "tiles", done: 8, total: 36 } : project),
  PUT: (path) => (path.includes("/absent/") ? new Response(null, { status: 204 }) : reply({ file: "f.png" })),
  POST: () => new Promise((go) => { server.answer = go; }),
  DELETE: () => new Response(null, { status: 204 }),
};
globalThis.fetch = async (path, { method, body }) => {
  server.sent.push([method, path, method === "PUT" && body ? JSON.parse(body).counts : null]);
  if (method === held.method) {
    await new Promise((go) => held.replies.push(go));
  }
  return faults.has(path) ? reply({ detail: faults.get(path) }, 500) : REPLIES[method](path);
};
globalThis.setInterval = (action) => { server.tick = action; };

export const reply = (content, status = 200) => new Response(JSON.stringify(content), { status, headers: { ETag: '"v"' } });
export const predicted = (counts) => {
  return reply({ mask: { size: [3, 4], counts }, predicted_iou: 0.9, presence: null, absent: false });
};
export const saves = () => server.sent.filter(([method, , counts]) => method === "PUT" && counts).map(([, , counts]) => counts);
