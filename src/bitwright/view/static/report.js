// What a report gains from a script: sorting, filtering and the theme.  Nothing is drawn here.
"use strict";
(() => {
  const root = document.documentElement;
  for (const tools of document.querySelectorAll("[data-script]")) tools.hidden = false;

  const theme = document.querySelector(".theme");
  if (theme) theme.addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = root.dataset.theme || (dark ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  });

  const table = document.querySelector("#tensors table.tensors");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const column = new Map([...table.tHead.rows[0].cells].map((cell, at) => [cell.className.split(" ")[0].slice(2), at]));

  const valueOf = (row, key) => {
    const text = row.cells[column.get(key)].textContent.trim();
    if (["tensor", "kind", "type"].includes(key)) return text;
    const plain = text.replace("−", "-").replace(/[▲▼<\s]/g, "");
    return plain === "" ? -Infinity : plain === "∞" ? Infinity : Number(plain);
  };
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-sort]");
    if (!button) return;
    const key = button.dataset.sort;
    const up = button.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
    button.setAttribute("aria-sort", up ? "ascending" : "descending");
    const keyed = rows.map((row, at) => [valueOf(row, key), at, row]);
    keyed.sort(([a, i], [b, j]) => (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1) || i - j);
    body.append(...keyed.map(([, , row]) => row));
  });

  const filter = document.querySelector("#filter");
  const count = document.querySelector("#shown");
  if (filter) filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !(row.dataset.tensor + " " + row.dataset.kind).toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} tensors`;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || !filter || event.target.matches("input,select,textarea")) return;
    event.preventDefault();
    filter.focus();
  });
})();
