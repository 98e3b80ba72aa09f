// The type as a bracket: dragged with the pointer or moved with arrow keys.  Python draws each state; answers that are
// overtaken by a later move are dropped.
import { query, session } from "./page.js";

let trying = null;
let wanted = null;
let moved = null;
// Keys may come faster than answers: what they say adds up on the format that was shown when the first one came.
let sum = null;

const picture = () => document.getElementById("bracket");
const fields = () => picture()?.parentElement?.querySelector("form");

/** What the fields and the drag say now, relative to the format that is shown. */
function changeNow(extra) {
  const form = fields();
  const box = picture();
  const change = new URLSearchParams({ mark: box.dataset.mark, format: form.elements.namedItem("format").value, ...extra });
  return change;
}

/** Ask for a state; only the last wish counts. */
async function attempt(change) {
  wanted = change;
  if (trying) return trying;
  trying = (async () => {
    while (wanted) {
      const now = wanted;
      wanted = null;
      const back = query();
      for (const name of ["step", "pick", "layer", "tab", "view", "color", "sort", "order"]) {
        if (back.get(name) && !now.has(name)) now.set(name, back.get(name));
      }
      const answer = await fetch(`/s/${session}/whatif?${now}`);
      const html = await answer.text();
      if (wanted && answer.ok) continue;
      answer.ok ? place(html) : refuse(html);
    }
  })();
  try { await trying; } finally { trying = null; sum = null; }
}

function place(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  const box = document.getElementById("tried");
  if (!box) return;
  const active = document.activeElement;
  const name = active && box.contains(active) ? active.id || active.getAttribute("name") : "";
  box.replaceChildren(...parsed.body.childNodes);
  arm();
  if (!name) return;
  const again = document.getElementById(name) || box.querySelector(`[name="${CSS.escape(name)}"]`);
  if (again) again.focus({ preventScroll: true });
}

function refuse(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  const box = document.getElementById("tried");
  box?.querySelectorAll(".refusal").forEach((one) => one.remove());
  box?.append(...parsed.body.childNodes);
}

/** Move the type by so many columns to the right (finer), or widen it by so many bits at the fine end. */
function move(by, bits = 0) {
  const box = picture();
  if (!sum) sum = { mark: box.dataset.mark, format: fields().elements.namedItem("format").value, shift: 0, wide: 0, bits: Number(box.dataset.bits) };
  sum.shift -= by;
  sum.wide += bits;
  const change = { mark: sum.mark, format: sum.format, shift: String(sum.shift) };
  if (sum.wide) change.bits = String(sum.bits + sum.wide);
  return attempt(new URLSearchParams(change));
}

function keyed(event) {
  const box = event.target.closest("#bracket");
  if (!box) return;
  const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
  if (by) {
    event.preventDefault();
    event.stopPropagation();
    move(by, event.shiftKey ? by : 0);
  } else if (event.key === "Enter") {
    event.preventDefault();
    fields().querySelector("button[value=apply]").click();
  }
}

function down(event) {
  const box = event.target.closest("#bracket");
  if (!box || event.button) return;
  const group = box.querySelector(".bracket");
  const svg = box.querySelector("svg");
  if (!group || !svg) return;
  const cell = Number(group.dataset.cell) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  event.preventDefault();
  box.focus({ preventScroll: true });
  moved = { x: event.clientX, cell, columns: 0, format: fields().elements.namedItem("format").value, mark: box.dataset.mark };
  addEventListener("pointermove", drag);
  addEventListener("pointerup", up, { once: true });
  addEventListener("pointercancel", up, { once: true });
}

function drag(event) {
  if (!moved) return;
  const columns = Math.round((event.clientX - moved.x) / moved.cell);
  if (columns === moved.columns) return;
  moved.columns = columns;
  attempt(new URLSearchParams({ mark: moved.mark, format: moved.format, shift: String(-columns) }));
}

function up() {
  moved = null;
  removeEventListener("pointermove", drag);
}

function typed(event) {
  const field = event.target.closest("[data-try]");
  if (!field || !field.closest("#tried")) return;
  const form = field.form;
  const what = field.dataset.try;
  if (what === "scheme") return void (field.value && attempt(new URLSearchParams({ mark: picture().dataset.mark, scheme: field.value })));
  if (what === "fraction") {
    const shift = -Number(field.value) - Number(picture().dataset.bottom);
    return void attempt(changeNow({ shift: String(shift) }));
  }
  attempt(changeNow({ bits: form.elements.namedItem("bits").value, signed: form.elements.namedItem("signed").value }));
}

function arm() {
  for (const link of document.querySelectorAll("[data-pick-kind]")) link.hidden = false;
}

export function start() {
  if (!session) return;
  document.addEventListener("keydown", keyed);
  document.addEventListener("pointerdown", down);
  document.addEventListener("change", typed);
  document.addEventListener("sent", arm);
  new MutationObserver(arm).observe(document.getElementById("side") || document.body, { childList: true });
  arm();
}
