// A run: its steps, its filmstrip and the picture are in step. Keys: j and k, or the arrows.
import { NO_ANSWER, say } from "./actions.js";
import { put } from "./live.js";

export function startRun() {
  const steps = document.getElementById("steps");
  const viewer = document.getElementById("picture");
  const caption = document.getElementById("caption");
  if (!steps) return null;
  let chosen = null; // the number of a step; null as long as the newest is shown

  const numberOf = (element) => Number(element?.id.split("-")[1]);
  const stepAt = (number) => document.getElementById(`step-${number}`);
  const frameAt = (number) => document.querySelector(`#frame-${number} a`);
  const numbers = () => [...steps.querySelectorAll(".step")].map(numberOf);

  function mark(element, parent) {
    for (const one of parent.querySelectorAll("[aria-current]")) if (one !== element) one.removeAttribute("aria-current");
    element?.setAttribute("aria-current", "step");
  }

  function show(number) {
    mark(stepAt(number), steps);
    const frame = frameAt(number);
    mark(frame, document.getElementById("film"));
    if (frame) {
      const picture = frame.firstElementChild.getAttribute("src");
      const film = document.getElementById("film");
      film.scrollLeft = frame.offsetLeft - film.offsetLeft - film.clientWidth / 2 + 48;
      if (viewer.getAttribute("src") !== picture) viewer.src = picture;
      viewer.alt = `Step ${number}`;
      viewer.parentElement.href = picture;
    } else {
      viewer.removeAttribute("src");
      viewer.alt = "";
    }
    caption.textContent = frame ? `Step ${number}` : `Step ${number} has no picture`;
  }

  async function choose(number) {
    if (!stepAt(number)) await more();
    const step = stepAt(number);
    if (!step) return;
    chosen = number;
    show(number);
    step.scrollIntoView({ block: "nearest" });
  }

  async function more() {
    const link = document.querySelector("#more [data-more]");
    if (!link) return;
    try {
      const response = await fetch(link.dataset.more);
      if (response.ok) put(await response.json());
    } catch {
      say(NO_ANSWER);
    }
  }

  // What comes live counts from the first steps of the page, and not from those that were asked for since.
  function countMore() {
    const link = document.querySelector("#more [data-more]");
    const last = numbers().at(-1);
    const left = document.getElementById("more").dataset.total - last;
    if (!link) return;
    link.dataset.more = link.dataset.more.replace(/\d+$/, last + 1);
    link.textContent = `${left} more steps →`;
    if (left <= 0) link.remove();
  }

  function onHash() {
    const number = Number(/^#step-(\d+)$/.exec(location.hash)?.[1]);
    if (stepAt(number)) choose(number);
    else if (number <= document.getElementById("more").dataset.total) location.replace(`?start=${number}#step-${number}`);
  }

  function go(by) {
    const all = numbers();
    const at = chosen === null ? (by > 0 ? -1 : all.length) : all.indexOf(chosen);
    const next = all[at + by] ?? (by > 0 && document.querySelector("#more [data-more]") ? chosen + 1 : undefined);
    if (next === undefined) return false;
    history.replaceState(null, "", `#step-${next}`);
    choose(next);
    return true;
  }

  const KEYS = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1, ArrowRight: 1, ArrowLeft: -1 };
  document.addEventListener("keydown", (event) => {
    const inField = event.target.closest("input, select, textarea, video, .log");
    if (inField || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
    if (go(KEYS[event.key])) event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("#more [data-more]");
    if (!link) return;
    event.preventDefault();
    more();
  });
  addEventListener("hashchange", onHash);
  onHash();

  return {
    onChange() {
      countMore();
      document.title = document.title.replace(/^\S+/, document.querySelector("#head .icon").textContent);
      if (chosen !== null) return show(chosen);
      const newest = document.querySelector("#film > li:last-child");
      if (newest) show(numberOf(newest));
    },
  };
}
