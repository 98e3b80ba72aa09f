// Light or dark: the system's choice until the reader makes another, which this browser remembers.
const root = document.documentElement;

export function start() {
  try {
    const kept = localStorage.getItem("bitwright-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* no storage: the system's choice it is */ }
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".theme")) return;
    const now = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    try { localStorage.setItem("bitwright-theme", root.dataset.theme); } catch { /* as above */ }
  });
}
