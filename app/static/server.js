// Requests to the server. Of each mask it is told which version was seen last, so that no other is replaced unseen.

const page = crypto.randomUUID(); // of this tab: its prompts take the place of each other, and of no other page's
const STEP_EVERY = 500; // milliseconds after which it is asked how far an answer is
let prompts = 0, awaited = null; // number of the newest prompt, and the one whose answer is awaited
let key = null; // of the project that the page shows; a server of other photographs answers nothing else
const versions = new Map(); // place of a mask -> its version on the disk
const ABSENT_VERSION = '"absent"'; // of a mask that is known not to be there
const OTHER_VERSION = 412, TAKES_MUCH = 428; // why a change is refused until the user has answered
const QUESTIONS = { [OTHER_VERSION]: "Go on all the same?", [TAKES_MUCH]: "Save it all the same?" };

async function send(path, method = "GET", body = undefined, headers = {}) {
  const own = { "X-Page": page, ...(key && { "X-Project": key }), ...(body && { "Content-Type": "application/json" }) };
  const response = await fetch(path, { method, headers: { ...own, ...headers }, body: body && JSON.stringify(body) });
  if (!response.ok) {
    const detail = (await response.json().catch(() => ({}))).detail;
    const told = typeof detail === "string" ? detail : `${response.status} ${JSON.stringify(detail ?? response.statusText)}`;
    throw Object.assign(new Error(told), { status: response.status, version: response.headers.get("ETag") });
  }
  return response;
}

const place = (number, name, what = "masks") => `/api/photographs/${number}/${what}/${encodeURIComponent(name)}`;

export async function readProject() {
  const project = await (await send("/api/project")).json();
  key = project.key;
  project.photographs.forEach(({ absent }, number) => absent.forEach((name) => versions.set(place(number, name), ABSENT_VERSION)));
  return project;
}

export const pictureOf = (number) => `/api/photographs/${number}/image?page=${page}`;

// Ask for a picture again, to be told what is wrong with it.
export const checkPicture = (number) => send(pictureOf(number));

// The answer to a prompt, which takes the place of the one before it; meanwhile it is told how far that is.
export async function predictMask(number, request, tellStep) {
  const prompt = awaited = String(++prompts);
  const timer = setInterval(async () => {
    const step = await readStep(prompt).catch(() => "…"); // what is wrong, the answer tells
    if (awaited === prompt) {
      tellStep(step);
    }
  }, STEP_EVERY);
  try {
    return await (await send(`/api/photographs/${number}/answer`, "POST", request, { "X-Prompt": prompt })).json();
  } finally {
    clearInterval(timer);
    awaited = awaited === prompt ? null : awaited;
  }
}

async function readStep(prompt) {
  const step = await (await send(`/api/answers/${prompt}`)).json();
  return `… ${step ? `${step.kind} ${step.done} / ${step.total}` : "other prompts come first"} (Escape cancels)`;
}

// End the prediction that is awaited, if there is one: its answer is an error.
export async function cancelPrediction() {
  if (awaited) {
    await send(`/api/answers/${awaited}`, "DELETE");
  }
}

export async function readMask(number, name) {
  versions.delete(place(number, name)); // of one that cannot be read nothing is known
  const response = await send(place(number, name));
  versions.set(place(number, name), response.headers.get("ETag"));
  return response.json();
}

// The file that a mask was saved in; null where the user would not replace a version that the page has not shown.
export const writeMask = (number, name, rle) => change("PUT", number, name, rle);

// Whether a mask was removed.
export const removeMask = (number, name) => change("DELETE", number, name);

// Say that a structure is not in a photograph, or that this is not known: whether that was written.
export const changeAbsent = (number, name, isAbsent) => change(isAbsent ? "PUT" : "DELETE", number, name, undefined, "absent");

async function change(method, number, name, body = undefined, what = "masks") {
  const path = place(number, name);
  let confirmed = false;
  while (true) {
    const version = versions.get(path), seen = version ? { "If-Match": version } : { "If-None-Match": "*" };
    try {
      const response = await send(place(number, name, what), method, confirmed ? { ...body, confirmed } : body, seen);
      versions.set(path, response.headers.get("ETag"));
      return response.status === 204 ? true : (await response.json()).file;
    } catch (error) {
      if (!QUESTIONS[error.status]) {
        throw error;
      }
      if (!confirm(`${error.message.split(" Send")[0]} ${QUESTIONS[error.status]}`)) {
        return null;
      }
      if (error.status === TAKES_MUCH) {
        confirmed = true;
      } else {
        versions.set(path, error.version);
      }
    }
  }
}
