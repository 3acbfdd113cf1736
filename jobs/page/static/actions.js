// Buttons: `data-post` calls the REST API, `data-copy` copies a text.
export const NO_ANSWER = "The server did not answer. Is it running?";
const message = document.getElementById("message");

export function say(text) {
  message.textContent = text;
  message.hidden = !text;
}

async function post(button) {
  const headers = { "Content-Type": "application/json" };
  if (globalThis.crypto?.randomUUID) headers["Idempotency-Key"] = crypto.randomUUID();
  const body = button.dataset.then === "run" ? '{"trigger":"ui"}' : "{}";
  if (button.ariaDisabled) return;
  button.ariaDisabled = "true"; // a button that is `disabled` would lose the focus
  try {
    const response = await fetch(button.dataset.post, { method: "POST", headers, body });
    const answer = await response.json();
    if (!response.ok) return say(answer.detail);
    say("");
    if (button.dataset.then === "run") location.assign(`/ui/runs/${answer.id}`);
    else if (button.dataset.then === "batch") location.assign(`/ui/batches/${answer.id}`);
    else if (button.dataset.then) location.assign(button.dataset.then);
  } catch {
    say(NO_ANSWER);
  } finally {
    button.ariaDisabled = null;
  }
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    say("Copied.");
  } catch {
    say(button.dataset.copy); // a page that may not write to the clipboard shows it
  }
}

export function listen() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-post], button[data-copy]");
    if (button?.dataset.post) post(button);
    else if (button) copy(button);
  });
}
