"use strict";
(() => {
  const all = () => [...document.querySelectorAll(".item")].filter((item) => item.checkVisibility());
  const open = (whether) => document.querySelectorAll("details").forEach((one) => { one.open = whether; });
  const step = (by) => {
    const items = all();
    const at = items.indexOf(document.activeElement.closest(".item"));
    const next = items[at < 0 ? (by > 0 ? 0 : items.length - 1) : Math.min(Math.max(at + by, 0), items.length - 1)];
    if (next) { next.focus({ preventScroll: true }); next.scrollIntoView({ block: "start" }); }
  };
  const keys = {
    j: () => step(1), k: () => step(-1), e: () => open(true), c: () => open(false),
    t: () => scrollTo({ top: 0 }),
    Enter: () => { const fold = document.activeElement.querySelector(":scope > details"); if (fold) fold.open = !fold.open; },
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || (event.key === "Enter" && !document.activeElement.matches(".item"))) return;
    const act = keys[event.key];
    if (act) { event.preventDefault(); act(); }
  });
})();
