// Follows the jobs: progress, strips that fill in, results.  The server goes on without us; on a reload we go on with it.
import { refresh, session, onPanels } from "./page.js";

let source = null;
let busy = false;
let again = null;

/** One fetch at a time; the last wish wins. */
async function fetchPanels(panels) {
  if (busy) { again = again && again.length > panels.length ? again : panels; return; }
  busy = true;
  try { await refresh(panels, { gentle: true }); } finally {
    busy = false;
    if (again) { const next = again; again = null; fetchPanels(next); }
  }
}

function text(job) {
  const parts = [job.total === 100 ? `${job.title} ${job.done} %` : job.total ? `${job.title} ${job.done} of ${job.total}` : job.title];
  if (job.text && job.text !== "calibrating" && job.text !== "validating") parts.push(job.text);
  if (job.remaining >= 1) parts.push(job.remaining < 100 ? `${Math.round(job.remaining)} s left` : `${Math.round(job.remaining / 60)} min left`);
  return parts.join(", ");
}

function progress(job) {
  const words = document.getElementById("progress-text");
  const meter = document.querySelector("#progress progress");
  if (!words || !meter) return void fetchPanels("head");
  words.textContent = text(job);
  if (job.total) { meter.max = job.total; meter.value = job.done; } else meter.removeAttribute("value");
}

function seen(event) {
  const job = JSON.parse(event.data);
  document.body.dataset.version = String(job.version);
  if (job.event === "progress") return progress(job);
  if (job.event === "rows") return void fetchPanels(document.querySelector("#table-box,.empty-note") ? "middle" : "head");
  if (job.event === "waiting" || job.event === "started") return void fetchPanels("head,failure");
  fetchPanels(job.event === "result" ? "head,graph,summary,middle" : "head,failure,graph,summary,middle,side");
}

function preview() {
  const box = document.getElementById("preview");
  if (!box || !box.dataset.src || box.dataset.loaded) return;
  box.dataset.loaded = "yes";
  fetch(box.dataset.src).then((answer) => answer.text()).then((html) => {
    const parsed = new DOMParser().parseFromString(html, "text/html");
    box.replaceChildren(...parsed.body.childNodes);
  });
}

export function start() {
  if (!session) return;
  onPanels(preview);
  source = new EventSource(`/s/${session}/events`);
  source.addEventListener("job", seen);
  source.addEventListener("hello", (event) => {
    const version = String(JSON.parse(event.data).version);
    if (version !== document.body.dataset.version) fetchPanels("head,failure,graph,summary,middle,side");
    document.body.dataset.version = version;
  });
  addEventListener("pagehide", () => source.close());
}
