"use strict";
// Tables sort by the raw value in data-sort; cells without one stay at the end.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th button").forEach((button, column) => button.addEventListener("click", () => {
    const header = button.parentElement;
    const down = header.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => row.cells[column].dataset.sort;
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const both = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
      return (both ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
    };
    body.append(...[...body.rows].sort(order));
  }));
}
for (const input of document.querySelectorAll("input.filter")) {
  const rows = [...document.getElementById(input.dataset.table).tBodies[0].rows];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
  });
}
for (const button of document.querySelectorAll(".choice button")) {
  button.addEventListener("click", () => {
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    for (const scene of document.querySelectorAll(".scene")) scene.hidden = scene.id !== button.dataset.scene;
  });
}
// Charts are drawn when they come into view: a page of them would take seconds to open.
const watch = new IntersectionObserver(entries => {
  for (const entry of entries.filter(one => one.isIntersecting)) {
    watch.unobserve(entry.target);
    const figure = JSON.parse(document.getElementById(entry.target.dataset.figure).textContent);
    Plotly.newPlot(entry.target, figure.data, figure.layout, {responsive: true, displaylogo: false});
  }
}, {rootMargin: "300px"});
document.querySelectorAll(".chart").forEach(chart => watch.observe(chart));
