// The table: a row is selected by click or key, several with Ctrl, Shift or Space; a large table moves its window.
import { onPanels, query, session, show } from "./page.js";

const rowsOf = () => [...document.querySelectorAll("#rows > tr")];
const markOf = (row) => row.id.slice(2);
let anchor = "";

export function picked() {
  return (query().get("pick") || "").split(".").filter(Boolean);
}

/** Select these tensors. */
export function pick(marks, { push = true } = {}) {
  const wanted = query();
  wanted.delete("layer");
  wanted.delete("step");
  if (marks.length) wanted.set("pick", marks.join(".")); else wanted.delete("pick");
  const search = `?${wanted}`;
  const done = show(search, query().get("step") ? "side,head" : "side", { push, replace: !push });
  paint();
  return done;
}

/** Mark what is selected, in table and graph. */
export function paint() {
  const chosen = new Set(picked());
  for (const row of rowsOf()) {
    const on = chosen.has(markOf(row));
    row.classList.toggle("selected", on);
    row.setAttribute("aria-selected", on ? "true" : "false");
  }
  const layer = query().get("layer");
  const wanted = new Set();
  for (const link of document.querySelectorAll("#graph svg.graph a")) {
    const box = link.querySelector(".box");
    if (layer && new URLSearchParams(link.getAttribute("href")).get("layer") === layer) wanted.add(box);
  }
  for (const box of document.querySelectorAll("#graph .box")) box.classList.toggle("selected", wanted.has(box));
}

function clicked(event) {
  if (event.target.closest("input,button,select")) return;
  const row = event.target.closest("#rows > tr");
  if (!row || !markOf(row)) return;
  const many = event.ctrlKey || event.metaKey;
  if (event.target.closest("a") && !many && !event.shiftKey) { anchor = markOf(row); return; }
  event.preventDefault();
  const mark = markOf(row);
  if (event.shiftKey && anchor) {
    const marks = rowsOf().map(markOf);
    const [a, b] = [marks.indexOf(anchor), marks.indexOf(mark)].sort((x, y) => x - y);
    if (a >= 0) return void pick(marks.slice(a, b + 1));
  }
  anchor = mark;
  if (!many) return void pick([mark]);
  toggle(mark);
}

/** Select one more, or one less. */
export function toggle(mark) {
  const now = picked();
  return pick(now.includes(mark) ? now.filter((one) => one !== mark) : [...now, mark]);
}

/** The next row, or the one before. */
export function step(by) {
  const rows = rowsOf();
  const now = picked();
  const at = rows.findIndex((row) => markOf(row) === (document.activeElement.closest?.("#rows > tr")?.id.slice(2) || now[now.length - 1]));
  const row = rows[Math.min(Math.max(at + by, 0), rows.length - 1)];
  if (!row) return;
  const link = row.querySelector("a");
  anchor = markOf(row);
  pick([anchor], { push: false });
  if (link) link.focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

// A large table shows a window of its rows; scrolling to an end brings the next one.
function windowed() {
  const box = document.getElementById("table-box");
  if (!box || !box.dataset.window || box.dataset.watched) return;
  box.dataset.watched = "yes";
  const size = Number(box.dataset.window);
  const total = Number(box.dataset.total);
  let first = Number(box.dataset.first);
  let waiting = false;
  box.addEventListener("scroll", async () => {
    if (waiting) return;
    const low = box.scrollTop + box.clientHeight > box.scrollHeight - 300;
    const high = box.scrollTop < 100 && first > 0;
    const rows = document.getElementById("rows");
    if (low && first + rows.rows.length < total) {
      waiting = true;
      const more = await fetchRows(first + rows.rows.length);
      rows.append(...more);
      // What has left the view far above is taken out, so that the page stays light.
      while (rows.rows.length > 3 * size) {
        const gone = [...rows.rows].slice(0, size);
        const tall = gone.reduce((sum, row) => sum + row.getBoundingClientRect().height, 0);
        gone.forEach((row) => row.remove());
        first += gone.length;
        box.scrollTop -= tall;
      }
      waiting = false;
    } else if (high) {
      waiting = true;
      const start = Math.max(0, first - size);
      const more = (await fetchRows(start)).slice(0, first - start);
      const before = box.scrollHeight;
      rows.prepend(...more);
      box.scrollTop += box.scrollHeight - before;
      first = start;
      while (rows.rows.length > 3 * size) rows.lastElementChild.remove();
      waiting = false;
    }
    paint();
  });
}

async function fetchRows(first) {
  const wanted = query();
  wanted.set("first", String(first));
  const answer = await fetch(`/s/${session}/rows?${wanted}`);
  const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
  return [...parsed.querySelectorAll("tbody > tr")];
}

let typed = 0;
function filtered(event) {
  if (event.target.id !== "filter" && event.target.id !== "kind" && event.target.id !== "other") return;
  clearTimeout(typed);
  typed = setTimeout(() => {
    const wanted = query();
    for (const name of ["text", "kind", "other"]) {
      const field = event.target.form.elements.namedItem(name);
      if (!field) continue;
      if (field.value) wanted.set(name, field.value); else wanted.delete(name);
    }
    wanted.delete("first");
    show(`?${wanted}`, "middle", { push: false, replace: true });
  }, event.target.id === "filter" ? 120 : 0);
}

export function start() {
  if (!session) return;
  document.addEventListener("click", clicked);
  document.addEventListener("input", filtered);
  document.addEventListener("click", (event) => {
    const all = event.target.closest("[data-pick-kind]");
    if (!all) return;
    event.preventDefault();
    const wanted = query();
    wanted.set("pick", "all");
    wanted.set("kind", all.dataset.pickKind);
    show(`?${wanted}`, "side,middle");
  });
  onPanels(() => { paint(); windowed(); });
}
