// Which photographs and structures are listed: those whose name is searched for, and those that a filter leaves.

import { isBegun, listPhotographs, listStructures } from "./lists.js";

const FILTERS = {
  all: () => true,
  new: (photograph) => !isBegun(photograph),
  missing: ({ done, absent }, name) => ![...done, ...absent].includes(name),
  drawn: ({ done }, name) => done.includes(name),
  absent: ({ absent }, name) => absent.includes(name),
};
const $ = (id) => document.getElementById(id);

export class WorkList {
  // page: {open(number), choose(number), now() -> {photographs, structures, number, structure}: what there is, and the
  // numbers of what is drawn}
  constructor(page) {
    this.page = page;
    for (const id of ["photograph_search", "photograph_filter", "structure_search"]) {
      $(id).addEventListener("input", () => this.show());
      $(id).addEventListener("keydown", (event) => this.take(event));
    }
  }

  // Enter opens the first line, Escape empties the box.
  take(event) {
    const { target, key } = event;
    if (key === "Enter") {
      const [first] = target.id === "structure_search" ? this.structures() : this.photographs();
      if (first !== undefined) {
        (target.id === "structure_search" ? this.page.choose : this.page.open)(first);
        target.blur();
      }
    } else if (key === "Escape") {
      target.value = target.tagName === "SELECT" ? "all" : "";
      target.blur();
      this.show();
    }
  }

  show() {
    const { photographs, structures, number, structure } = this.page.now();
    if (photographs.length) {
      $("progress").textContent = `${photographs.filter(isBegun).length} / ${photographs.length}`;
      listPhotographs($("photographs"), this.photographs(), { photographs, structures }, number, this.page.open);
      listStructures($("structures"), this.structures(), structures, photographs[number], structure, this.page.choose);
    }
  }

  // Numbers of the photographs that are listed.
  photographs() {
    const { photographs, structures, structure } = this.page.now(), fits = FILTERS[$("photograph_filter").value] ?? FILTERS.all;
    return numbers(photographs, (one) => contains(one.name, $("photograph_search")) && fits(one, structures[structure].name));
  }

  structures() {
    return numbers(this.page.now().structures, (one) => contains(one.name, $("structure_search")));
  }

  // The next photograph that is listed after `number`, or with a step of -1 before it; undefined at the end.
  next(number, step) {
    const listed = this.photographs();
    return step > 0 ? listed.find((other) => other > number) : listed.findLast((other) => other < number);
  }

  search() {
    $("photograph_search").focus();
    $("photograph_search").select();
  }
}

const numbers = (list, matches) => list.flatMap((one, i) => (matches(one) ? [i] : []));
const contains = (name, box) => name.toLowerCase().includes(box.value.trim().toLowerCase());
