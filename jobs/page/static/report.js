// A report: pictures become visible when they are scrolled to; j and k, or the arrows, go from step to step.
"use strict";
{
  const show = (image) => {
    const data = document.getElementById(image.dataset.picture);
    if (data && !image.src) image.src = JSON.parse(data.textContent);
  };
  const images = document.querySelectorAll("img[data-picture]");
  const observer = new IntersectionObserver(
    (entries) => entries.forEach((entry) => entry.isIntersecting && show(entry.target)),
    { rootMargin: "600px" },
  );
  images.forEach((image) => observer.observe(image));
  addEventListener("beforeprint", () => images.forEach(show));

  let kept = null; // the step that was gone to: pictures above it may still grow, until the reader moves
  images.forEach((image) => image.addEventListener("load", () => kept?.scrollIntoView({ block: "nearest" })));
  ["wheel", "touchmove", "pointerdown", "keydown"].forEach((name) => addEventListener(name, () => (kept = null), { passive: true }));
  addEventListener("hashchange", () => (kept = document.querySelector(".step:target")));

  const steps = [...document.querySelectorAll(".step")];
  const KEYS = { j: 1, k: -1, ArrowRight: 1, ArrowLeft: -1 };
  addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = steps.findIndex((step) => `#${step.id}` === location.hash);
    const next = steps[at < 0 && KEYS[event.key] < 0 ? steps.length - 1 : at + KEYS[event.key]];
    if (next) location.hash = next.id;
  });
}
