// The keys of the page.

// actions: what each key does; choose: what the keys 1 to 9 do, with their number. With Space the mouse moves the picture.
export function listenToKeys(mouse, actions, choose) {
  const { view } = mouse;
  document.addEventListener("keydown", (event) => {
    const { target } = event, key = event.key.length === 1 ? event.key.toLowerCase() : event.key; // Caps Lock is harmless
    const control = event.ctrlKey || event.metaKey;
    const slides = target.matches("input[type=range]") && key.startsWith("Arrow");
    if (mouse.gesture || slides || event.altKey || (control && !"zs".includes(key))) {
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
      actions[key]();
      view.redraw();
    }
  });
  document.addEventListener("keyup", (event) => { mouse.space = mouse.space && event.key !== " "; });
}
