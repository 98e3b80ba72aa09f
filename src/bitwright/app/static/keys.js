// The keys; each does what a link or button does as well.
import { query, session, show } from "./page.js";
import { pick, step, toggle } from "./table.js";

const click = (selector) => { const found = document.querySelector(selector); if (found) found.click(); return Boolean(found); };

function pressed(event) {
  const typing = event.target.closest("input,select,textarea,[contenteditable]");
  const command = event.ctrlKey || event.metaKey;
  if (command && !typing && event.key.toLowerCase() === "z") {
    event.preventDefault();
    return void click(event.shiftKey ? "#redo:not([disabled])" : "#undo:not([disabled])");
  }
  if (command && !typing && event.key.toLowerCase() === "y") {
    event.preventDefault();
    return void click("#redo:not([disabled])");
  }
  if (event.key === "Escape" && session && !document.querySelector("dialog[open]")) {
    if (typing) event.target.blur();
    if (query().get("pick") || query().get("layer") || query().get("step")) {
      const wanted = query();
      for (const name of ["pick", "layer", "step"]) wanted.delete(name);
      show(`?${wanted}`, "side,head");
    }
    return;
  }
  if (typing || command || event.altKey) return;
  if (event.key === "?") {
    event.preventDefault();
    return void document.getElementById("keys")?.showModal();
  }
  if (event.key === "o") {
    event.preventDefault();
    if (session) location.href = "/"; else click("#file");
    return;
  }
  if (!session) return;
  const box = event.target.closest("#bracket");
  if (event.key === "/") {
    event.preventDefault();
    document.getElementById("filter")?.focus();
  } else if ((event.key === "j" || event.key === "ArrowDown") && !box && !inScroll(event)) {
    event.preventDefault();
    step(1);
  } else if ((event.key === "k" || event.key === "ArrowUp") && !box && !inScroll(event)) {
    event.preventDefault();
    step(-1);
  } else if (event.key === " " && event.target.closest("#rows")) {
    event.preventDefault();
    toggle(event.target.closest("tr").id.slice(2));
  } else if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && !box && document.getElementById("bracket") && !inScroll(event)) {
    event.preventDefault();
    document.getElementById("bracket").focus();
    document.getElementById("bracket").dispatchEvent(new KeyboardEvent("keydown", { key: event.key, shiftKey: event.shiftKey, bubbles: true }));
  } else if (event.key === "g") {
    document.querySelector("#graph .graph-box")?.focus();
  } else if (event.key === "c") {
    const wanted = query();
    wanted.set("tab", "compare");
    show(`?${wanted}`, "middle");
  } else if (event.key === "a" && event.target.closest("#rows")) {
    pick([...document.querySelectorAll("#rows > tr")].map((row) => row.id.slice(2)));
  }
}

/** Arrow keys scroll what scrolls by itself. */
function inScroll(event) {
  return event.key.startsWith("Arrow") && event.target.matches?.(".scroll,pre,summary");
}

export function start() {
  document.addEventListener("keydown", pressed);
}
