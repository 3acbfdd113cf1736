// The log: earlier lines on demand, what is new as it comes, a search, and a link per line: its offset in bytes.
import { NO_ANSWER, say } from "./actions.js";
import { isOver } from "./live.js";

const CHUNK_BYTES = 256 * 1024;
const SEARCHED_BYTES = 32 * 1024 * 1024;
const MOST_LINES = 20000; // that stay in the page while it follows the log
const POLL_MILLISECONDS = 2000;

function lineElement(offset, text) {
  const line = document.createElement("li");
  const link = document.createElement("a");
  const content = document.createElement("span");
  line.id = `log-${offset}`;
  link.href = `#log-${offset}`;
  link.setAttribute("aria-label", "Link to this line");
  content.textContent = text.slice(0, 5000);
  line.append(link, content);
  return line;
}

// The lines in these bytes, the first of which has this offset; an end without a newline is a line, too.
function linesOf(content, offset) {
  const decoder = new TextDecoder();
  const lines = [];
  for (let start = 0; start < content.length; ) {
    const found = content.indexOf(10, start);
    const end = found < 0 ? content.length : found;
    lines.push(lineElement(offset + start, decoder.decode(content.subarray(start, end))));
    start = end + 1;
  }
  return lines;
}

function control(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

export function startLog() {
  const list = document.getElementById("log");
  const tools = document.getElementById("log-tools");
  if (!list) return null;
  const url = list.dataset.url;
  let start = Number(list.dataset.start);
  let end = Number(list.dataset.end);
  let partial = "partial" in list.dataset; // whether the last line had no newline when it was read

  const earlier = control("button", { type: "button", textContent: "Earlier lines" });
  const following = control("input", { type: "checkbox", checked: !isOver() });
  const search = control("input", { type: "search", placeholder: "Search the log", maxLength: 200 });
  const result = control("span", { className: "quiet" });
  const label = control("label", {});
  search.setAttribute("aria-label", "Search the log");
  result.setAttribute("role", "status");
  label.append(following, " follow");
  tools.prepend(search, result, label, earlier);

  async function read(from, to) {
    try {
      const response = await fetch(url, { headers: { Range: `bytes=${from}-${to - 1}` } });
      if (response.ok) return new Uint8Array(await response.arrayBuffer());
    } catch {
      say(NO_ANSWER);
    }
    return new Uint8Array();
  }

  // Earlier lines, as many as are in so many bytes; the first of them may be cut unless the log begins there.
  async function readEarlier(size = CHUNK_BYTES) {
    const from = Math.max(0, start - size);
    if (from === start) return false;
    let content = await read(from, start);
    let offset = from;
    if (from > 0) {
      const cut = content.indexOf(10) + 1; // 0 for a line that is longer than all of this
      offset += cut;
      content = content.subarray(cut);
    }
    if (!content.length) return false;
    list.prepend(...linesOf(content, offset));
    start = offset;
    earlier.hidden = start === 0;
    return true;
  }

  async function readNewer() {
    const response = await fetch(`${url}?offset=${end}`);
    if (!response.ok) return;
    const content = new Uint8Array(await response.arrayBuffer());
    if (!content.length) return;
    const next = linesOf(content, end);
    if (partial) list.lastElementChild.lastElementChild.textContent += next.shift().lastElementChild.textContent;
    list.append(...next);
    partial = content[content.length - 1] !== 10;
    end += content.length;
    if (!following.checked) return;
    [...list.children].slice(0, -MOST_LINES).forEach((line) => line.remove());
    start = Number(list.firstElementChild.id.split("-")[1]);
    earlier.hidden = start === 0;
    list.scrollTop = list.scrollHeight;
  }

  async function onHash() {
    const offset = Number(/^#log-(\d+)$/.exec(location.hash)?.[1] ?? NaN);
    if (Number.isNaN(offset)) return;
    if (offset < start && start - offset <= SEARCHED_BYTES) await readEarlier(start - offset + 1); // and the newline before it
    following.checked = false;
    document.getElementById(`log-${offset}`)?.scrollIntoView({ block: "center" });
    list.querySelector(".here")?.classList.remove("here");
    document.getElementById(`log-${offset}`)?.classList.add("here");
  }

  // The place of the next line with the text, from the line at `from` on upwards; earlier ones are read if need be.
  async function find(text, from) {
    for (let read = 0; ; read += CHUNK_BYTES) {
      const lines = [...list.children];
      for (let n = Math.min(from, lines.length - 1); n >= 0; n--) {
        if (lines[n].lastElementChild.textContent.toLowerCase().includes(text)) return n;
      }
      const before = lines.length;
      if (read > SEARCHED_BYTES || !(await readEarlier())) return -1;
      from = list.children.length - before - 1;
    }
  }

  search.addEventListener("keydown", async (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const text = search.value.toLowerCase();
    const marked = list.querySelector(".found");
    const at = marked ? [...list.children].indexOf(marked) - 1 : list.children.length - 1;
    if (!text) return;
    let n = at >= 0 ? await find(text, at) : -1;
    if (n < 0 && marked) n = await find(text, list.children.length - 1);
    marked?.classList.remove("found");
    result.textContent = n < 0 ? "not found" : "";
    if (n < 0) return;
    following.checked = false;
    list.children[n].classList.add("found");
    list.children[n].scrollIntoView({ block: "nearest" });
  });
  search.addEventListener("input", () => {
    list.querySelector(".found")?.classList.remove("found");
    result.textContent = "Enter finds the last line with it, and again the one before";
  });
  earlier.hidden = start === 0;
  earlier.addEventListener("click", () => readEarlier());
  following.addEventListener("change", () => following.checked && poll());
  addEventListener("hashchange", onHash);
  list.scrollTop = list.scrollHeight;
  onHash();

  let reading = false;
  async function poll() {
    if (reading || document.hidden) return;
    reading = true;
    try {
      await readNewer();
    } catch {
      // the server is away; the next time may be better
    } finally {
      reading = false;
    }
  }
  let last = isOver();
  setInterval(() => {
    if (last && isOver()) return; // and once after the end
    last = isOver();
    if (following.checked) poll();
  }, POLL_MILLISECONDS);
  return { onChange: () => following.checked && poll() };
}
