// Files dropped on a form go where its file field would send them; paths are completed while they are typed.
import { send, session } from "./page.js";

function over(event) {
  const form = event.target.closest?.("form.drop");
  if (!form || !event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  form.classList.add("is-over");
}

function out(event) {
  const form = event.target.closest?.("form.drop");
  if (form && !form.contains(event.relatedTarget)) form.classList.remove("is-over");
}

async function drop(event) {
  const form = event.target.closest?.("form.drop") || (session ? null : document.getElementById("drop"));
  if (!form || !event.dataTransfer?.files.length) return;
  event.preventDefault();
  form.classList.remove("is-over");
  form.querySelector("input[type=file]").files = event.dataTransfer.files;
  if (session) send(form, null); else form.requestSubmit();
}

function chosen(event) {
  const form = event.target.closest("form.drop");
  if (!form || event.target.type !== "file" || !event.target.files.length) return;
  if (session) send(form, null); else form.requestSubmit();
}

let typing = 0;
function typed(event) {
  if (!event.target.dataset.paths) return;
  clearTimeout(typing);
  typing = setTimeout(async () => {
    const answer = await fetch(`/paths?text=${encodeURIComponent(event.target.value)}`);
    if (!answer.ok) return;
    const list = document.getElementById("paths");
    list.replaceChildren(...(await answer.json()).map((path) => {
      const option = document.createElement("option");
      option.value = path;
      return option;
    }));
  }, 150);
}

export function start() {
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", out);
  document.addEventListener("drop", drop);
  document.addEventListener("change", chosen);
  document.addEventListener("input", typed);
}
