// The lists of photographs and structures, and what is known of each.

export const isBegun = ({ done, absent }) => done.length + absent.length > 0;

// numbers: of the photographs that are listed. Each has a filled mark for a mask, an empty one for what is absent.
export function listPhotographs(list, numbers, { photographs, structures }, current, open) {
  const lines = numbers.map((i) => item([text(photographs[i].name), marks(photographs[i], structures)], i === current, () => open(i)));
  list.replaceChildren(...lines);
  list.querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
}

function marks({ done, absent }, structures) {
  const found = Object.assign(document.createElement("span"), { className: "marks" });
  for (const { name, colour } of structures) {
    const isDone = done.includes(name);
    if (isDone || absent.includes(name)) {
      const mark = text("", isDone ? { background: colour, borderColor: colour } : { borderColor: colour });
      found.append(Object.assign(mark, { title: isDone ? name : `${name}: absent` }));
    }
  }
  return found;
}

// numbers: of the structures that are listed. With a mark for a mask, another for what is known not to be there, else the key.
export function listStructures(list, numbers, structures, { done, absent }, current, choose) {
  const lines = numbers.map((i) => {
    const { name, colour } = structures[i];
    const swatch = Object.assign(text("", { background: colour }), { className: "colour" });
    const state = done.includes(name) ? "✓" : absent.includes(name) ? "absent" : i < 9 ? i + 1 : "";
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
