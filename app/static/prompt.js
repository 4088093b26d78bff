// What a prompt is, and what it does to the mask before it: it adds to it, or takes from it.

// As the server takes it, beside the structure.
export const noPrompt = () => ({ structure_prompt: false, box: null, clicks: [] });

// Whether the answer is taken from the mask before the prompt: clicks beside the structure, and nothing else.
export const isTaking = ({ structure_prompt, box, clicks }, base) => {
  return Boolean(base) && !structure_prompt && !box && clicks.length > 0 && clicks.every((one) => !one.foreground);
};

// What is predicted: of a prompt that takes away, what its clicks are on.
export const asSent = (prompt, base) => {
  return isTaking(prompt, base) ? { ...prompt, clicks: prompt.clicks.map((one) => ({ ...one, foreground: true })) } : prompt;
};

// Whether a click is the first of another prompt: on the structure after clicks that take away, or beside it, where the
// mask before the prompt is and its answer is not.
export function beginsAnother(click, prompt, base, answer) {
  if (click.foreground) {
    return isTaking(prompt, base);
  }
  const at = base && click.y * base.width + click.x;
  return Boolean(base) && !isTaking(prompt, base) && base.values[at] === 1 && answer?.values[at] !== 1;
}
