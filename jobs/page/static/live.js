// Server-sent events with the parts of the page that have changed: whole elements, made by the server's templates.
const RETRY_MILLISECONDS = 1000;
const LONGEST_RETRY = 15000;

// The elements in this HTML, which is ours: all text in it is escaped. Scripts in it would not run.
function elementsOf(html) {
  const parsed = new DOMParser().parseFromString(`<template>${html}</template>`, "text/html");
  return [...parsed.querySelector("template").content.children];
}

// Put the parts into the page, each in the place of the one with its ID; those that are new at the end of their list.
export function put(parts) {
  const focused = document.activeElement;
  const part = focused?.closest("[id]");
  const index = part ? [...part.querySelectorAll("a, button, summary")].indexOf(focused) : -1;
  for (const html of Object.values(parts)) {
    for (const element of elementsOf(html)) {
      const old = document.getElementById(element.id);
      if (old) {
        keepOpen(old, element);
        old.replaceWith(element);
      } else {
        document.getElementById(element.dataset.into)?.append(element);
      }
    }
  }
  if (part && !part.isConnected) {
    const same = document.getElementById(part.id)?.querySelectorAll("a, button, summary")[index];
    (same ?? document.getElementById("main")).focus({ preventScroll: true });
  }
}

function keepOpen(old, element) {
  const details = element.querySelectorAll("details");
  old.querySelectorAll("details").forEach((one, n) => {
    if (one.open && details[n]) details[n].open = true;
  });
}

export const isOver = () => document.querySelector("[data-final]") !== null;

// Follow the page's stream as long as the page is seen. One stream per page; it is opened again when it breaks off.
export function follow(onChange) {
  const url = document.body.dataset.live;
  let version = document.body.dataset.version;
  let source = null;
  let timer = 0;
  let wait = RETRY_MILLISECONDS;
  if (!url) return;

  function close() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  function open() {
    close();
    if (document.hidden || isOver()) return;
    source = new EventSource(`${url}${url.includes("?") ? "&" : "?"}version=${version}`);
    source.onopen = () => {
      wait = RETRY_MILLISECONDS;
    };
    source.onmessage = (event) => {
      version = event.lastEventId;
      put(JSON.parse(event.data));
      onChange();
      if (isOver()) close();
    };
    source.onerror = () => {
      close();
      timer = setTimeout(open, wait);
      wait = Math.min(2 * wait, LONGEST_RETRY);
    };
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  open();
}
