// The keys of the page.

// actions: what each key does; choose: what the keys 1 to 9 do, with their number. With Space the mouse moves the picture.
export function listenToKeys(mouse, actions, choose) {
  const { view } = mouse;
  document.addEventListener("keydown", (event) => {
    const { target } = event, key = event.key.length === 1 ? event.key.toLowerCase() : event.key; // Caps Lock is harmless
    const control = event.ctrlKey || event.metaKey;
    const isRedo = control && key === "z" && event.shiftKey;
    if (mouse.gesture || isOfControl(target, key) || event.altKey || (control && !"zsy".includes(key))) {
      return;
    }
    if (/^[1-9]$/.test(key)) {
      choose(Number(key));
    } else if (key === " " && (target === view.canvas || target === document.body)) {
      event.preventDefault();
      mouse.space = true;
      view.redraw();
    } else if (Object.hasOwn(actions, key)) {
      event.preventDefault();
      actions[isRedo ? "y" : key]();
      view.redraw();
    }
  });
  document.addEventListener("keyup", (event) => { mouse.space = mouse.space && event.key !== " "; });
}

// Whether a key belongs to what has the focus: it writes, moves a slider, chooses, or presses a button.
function isOfControl(target, key) {
  if (document.getElementById("keys").open === true) { // the sheet of keys
    return key !== "?";
  }
  if (target.matches("input[type=search]")) {
    return true;
  }
  if (target.matches("input[type=range], input[type=radio], select")) {
    return key.startsWith("Arrow") || (target.matches("select") && key.length === 1);
  }
  return key === "Enter" && target.matches("button, summary");
}
