// The line that says what has happened.

export function tell(text, error = false) {
  const line = document.getElementById("status");
  line.textContent = text;
  line.classList.toggle("error", error);
}

// Run what talks to the server; an error is told where it is still of interest, and nothing is lost.
export async function attempt(action, isWanted = () => true) {
  try {
    return await action();
  } catch (error) {
    const told = error instanceof TypeError ? `The server does not answer (${error.message}): is it running?` : error.message;
    if (isWanted()) {
      tell(told, true);
    }
    return undefined;
  }
}
