// The lists of photographs and structures, and what is known of each.

export const isBegun = ({ done, absent }) => done.length + absent.length > 0;

export function listPhotographs(list, photographs, current, open) {
  const lines = photographs.map((one, i) => {
    return item([text(one.name), text(one.done.length + one.absent.length || "")], i === current, () => open(i));
  });
  list.replaceChildren(...lines);
  list.querySelector("[aria-current=true]").scrollIntoView({ block: "nearest" });
}

// With a mark for a mask, another for what is known not to be there, else the key.
export function listStructures(list, structures, { done, absent }, current, choose) {
  const lines = structures.map(({ name, colour }, i) => {
    const swatch = Object.assign(text("", { background: colour }), { className: "colour" });
    const state = done.includes(name) ? "✓" : absent.includes(name) ? "absent" : i + 1;
    return item([swatch, text(name), text(state)], i === current, () => choose(i));
  });
  list.replaceChildren(...lines);
}

function item(parts, isCurrent, action) {
  const button = document.createElement("button");
  button.append(...parts);
  button.setAttribute("aria-current", String(isCurrent));
  button.addEventListener("click", action);
  const line = document.createElement("li");
  line.append(button);
  return line;
}

function text(content, style = {}) {
  const span = Object.assign(document.createElement("span"), { textContent: content });
  Object.assign(span.style, style);
  return span;
}
