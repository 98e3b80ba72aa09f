// Panels: fetched from the server as finished HTML and put in place; the address always says what is shown.

export const session = document.body.dataset.session || "";
const base = `/s/${session}`;
const listeners = new Set();
const latest = new Map();
// The address that each panel was drawn for: its links say what changes from there, not what was selected since.
const drawnFor = new Map();
const firstQuery = new URLSearchParams(location.search);
let turn = 0;

/** Call `listener` after panels have changed, and once now. */
export function onPanels(listener) {
  listeners.add(listener);
  listener();
}

/** The parameters of the address. */
export function query() {
  return new URLSearchParams(location.search);
}

/** HTML of our own server as nodes; scripts in it would not run, and there are none. */
export function nodesOf(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  const first = parsed.body.firstElementChild;
  return first ? [...first.childNodes] : [];
}

/** Put finished HTML into an element, and keep what the reader has opened, scrolled and focused in it. */
export function put(target, html) {
  const scrolled = [...target.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box.scrollTop]);
  const opened = [...target.querySelectorAll("details")].map((one) => one.open);
  const focused = target.contains(document.activeElement) ? placeOf(target, document.activeElement) : null;
  target.replaceChildren(...nodesOf(html));
  [...target.querySelectorAll(".scroll")].forEach((box, k) => {
    if (scrolled[k]) [box.scrollLeft, box.scrollTop] = scrolled[k];
  });
  const now = [...target.querySelectorAll("details")];
  if (now.length === opened.length) now.forEach((one, k) => { one.open = one.open || opened[k]; });
  if (focused) again(target, focused);
  for (const button of target.querySelectorAll(".copy,.theme")) button.hidden = false;
}

function placeOf(root, element) {
  if (element.id) return { id: element.id };
  const same = [...root.querySelectorAll(element.tagName)];
  return { tag: element.tagName, at: same.indexOf(element) };
}

function again(root, place) {
  const found = place.id ? document.getElementById(place.id) : root.querySelectorAll(place.tag)[place.at];
  if (found) found.focus({ preventScroll: true });
}

/** Fetch panels of an address and show them. */
export async function show(search, panels, { push = true, replace = false, gentle = false } = {}) {
  const mine = ++turn;
  for (const name of panels.split(",")) latest.set(name, mine);
  if (push || replace) history[push && !replace ? "pushState" : "replaceState"]({}, "", search === "?" ? base : base + search);
  const answer = await fetch(base + (search === "?" ? "" : search), { headers: { "X-Panels": panels } });
  if (!answer.ok) return location.reload();
  const found = await answer.json();
  // A panel that was asked for again meanwhile waits for that answer.
  place(Object.fromEntries(Object.entries(found.panels).filter(([name]) => latest.get(name) === mine && !(gentle && isTyped(name)))), search);
}

/** Whether somebody is filling in the form at the side: news of a job must not take away what was typed. */
function isTyped(name) {
  if (name !== "side") return false;
  return [...document.querySelectorAll("#side input,#side select")].some((field) => {
    if (field.type === "hidden") return false;
    if (field.type === "checkbox" || field.type === "radio") return field.checked !== field.defaultChecked;
    if (field.tagName === "SELECT") return [...field.options].some((one) => one.defaultSelected && !one.selected);
    return field.type === "file" ? field.files.length > 0 : field.value !== field.defaultValue;
  });
}

/** Fetch panels of the present address again. */
export function refresh(panels, { gentle = false } = {}) {
  return show(location.search || "?", panels, { push: false, gentle });
}

function place(panels, search) {
  for (const [name, html] of Object.entries(panels)) {
    drawnFor.set(name, new URLSearchParams(search));
    const target = document.getElementById(name);
    if (target) put(target, html);
  }
  for (const listener of listeners) listener();
}

/** Send a form and show what came of it. */
export async function send(form, submitter) {
  const body = new FormData(form, submitter);
  const back = form.querySelector("input[name=back]");
  if (back) body.set("back", location.search || "?");
  const files = form.enctype === "multipart/form-data";
  const action = (submitter && submitter.getAttribute("formaction")) || form.getAttribute("action");
  if (submitter) submitter.disabled = true;
  try {
    const answer = await fetch(action, {
      method: "POST",
      headers: { "X-Panels": "all" },
      body: files ? body : new URLSearchParams([...body].map(([k, v]) => [k, String(v)])),
    });
    if (!answer.ok) return say(await answer.text());
    const found = await answer.json();
    for (const name of Object.keys(found.panels)) latest.set(name, ++turn);
    place(found.panels, location.search || "?");
    document.dispatchEvent(new CustomEvent("sent", { detail: { action, run: body.get("run") } }));
  } finally {
    if (submitter && submitter.isConnected) submitter.disabled = false;
  }
}

/** Show what went wrong where errors stand. */
export function say(text) {
  const box = document.getElementById("failure");
  const section = document.createElement("section");
  section.className = "failure";
  section.setAttribute("role", "alert");
  const title = document.createElement("h2");
  title.textContent = "That did not work";
  const words = document.createElement("p");
  words.textContent = new DOMParser().parseFromString(text, "text/html").body.textContent.trim().slice(0, 2000);
  section.append(title, words);
  if (box) box.replaceChildren(section);
}

/** Where a link leads from the present address: what it changes of the one that its panel was drawn for. */
function leads(link) {
  const panel = link.closest("#head,#failure,#graph,#summary,#middle,#side");
  const before = drawnFor.get(panel?.id) || firstQuery;
  const after = new URLSearchParams(link.getAttribute("href"));
  const now = query();
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    if (before.get(name) === after.get(name)) continue;
    if (after.has(name)) now.set(name, after.get(name)); else now.delete(name);
  }
  // What is selected is one thing: a tensor, a layer or a step.
  const picked = ["pick", "layer", "step"].filter((name) => after.has(name) && after.get(name) !== before.get(name));
  if (picked.length) for (const name of ["pick", "layer", "step"]) if (!picked.includes(name)) now.delete(name);
  return `?${now}`;
}

/** Which panels a step from one address to another changes. */
function panelsFor(link) {
  return link.dataset.go || "side";
}

export function start() {
  for (const button of document.querySelectorAll(".copy,.theme")) button.hidden = false;
  if (!session) return;
  document.addEventListener("click", (event) => {
    const copy = event.target.closest(".copy");
    if (copy) {
      navigator.clipboard.writeText(copy.dataset.copy).then(() => { copy.textContent = "Copied"; }, () => { copy.textContent = "Select and copy"; });
      return;
    }
    if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const link = event.target.closest("a[href^='?']");
    if (!link) return;
    event.preventDefault();
    const search = leads(link);
    const panels = panelsFor(link);
    if (link.closest("#graph") && new URLSearchParams(search).get("block") !== query().get("block")) return void show(search, "graph");
    show(search, panels);
    if (panels.startsWith("side") && matchMedia("(max-width: 1099px)").matches) document.getElementById("side").scrollIntoView();
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method === "dialog" || form.dataset.plain) return;
    if (form.method === "get") {
      event.preventDefault();
      const wanted = query();
      for (const [name, value] of new FormData(form)) {
        if (["sort", "order", "pick", "layer"].includes(name)) continue;
        if (value) wanted.set(name, value); else wanted.delete(name);
      }
      wanted.delete("first");
      return void show(`?${wanted}`, "middle");
    }
    if (!form.getAttribute("action").startsWith(base)) return;
    event.preventDefault();
    send(form, event.submitter);
  });
  document.addEventListener("change", (event) => {
    if (event.target.closest("[data-submit]")) event.target.form.requestSubmit();
  });
  addEventListener("popstate", () => refresh("head,graph,summary,middle,side"));
}
