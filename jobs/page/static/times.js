// Times: the server writes UTC; here they become local, and relative where they are of today.
const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const UNITS = [["h", 3600], ["min", 60], ["s", 1]];

export function seconds(value) {
  const [unit, size] = UNITS.find(([, size]) => value >= size) ?? UNITS[2];
  const rest = unit === "h" ? ` ${Math.floor((value % 3600) / 60)} min` : unit === "min" ? ` ${Math.floor(value % 60)} s` : "";
  return `${Math.floor(Math.max(0, value) / size)} ${unit}${rest}`;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function showTimes(root) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const time = new Date(element.dateTime);
    const ago = (now - time) / 1000;
    if (!element.title) element.title = clock.format(time);
    const relative = ago >= 0 && ago < 86400 && !element.classList.contains("exact");
    setText(element, relative ? `${seconds(ago).split(" ").slice(0, 2).join(" ")} ago` : clock.format(time));
  }
  for (const element of root.querySelectorAll("[data-since]")) {
    setText(element, seconds((now - new Date(element.dataset.since)) / 1000));
  }
}
