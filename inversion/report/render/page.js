"use strict";
// Long names break after their parts, not within a word.
for (const place of document.querySelectorAll("td.name, figcaption, .answer p, .card, summary")) {
  const texts = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (texts.nextNode()) nodes.push(texts.currentNode);
  for (const node of nodes) {
    const parts = node.data.split(/(?<=[+:/_=])(?=\S)/);
    if (parts.length > 1) node.replaceWith(...parts.flatMap((part, index) => index ? [document.createElement("wbr"), part] : [part]));
  }
}
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
for (const button of document.querySelectorAll("button.columns")) {
  const more = button.textContent;
  button.addEventListener("click", () => {
    const all = document.getElementById(button.dataset.table).classList.toggle("all");
    button.setAttribute("aria-pressed", String(all));
    button.textContent = all ? "fewer columns" : more;
  });
}
// A shadow at an edge says that there is more beyond it.
const shade = box => {
  box.parentElement.classList.toggle("left", box.scrollLeft > 1);
  box.parentElement.classList.toggle("right", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
};
const sizes = new ResizeObserver(entries => entries.forEach(entry => shade(entry.target.closest(".scroll"))));
for (const box of document.querySelectorAll(".edge > .scroll")) {
  box.addEventListener("scroll", () => shade(box), {passive: true});
  sizes.observe(box);
  if (box.firstElementChild) sizes.observe(box.firstElementChild);
}
for (const button of document.querySelectorAll(".choice button")) {
  button.addEventListener("click", () => {
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    for (const scene of document.querySelectorAll(".scene")) scene.hidden = scene.id !== button.dataset.scene;
  });
}
// A reconstruction gives its place to what it should have been.
for (const button of document.querySelectorAll("button.swap")) {
  const image = button.querySelector("img"), made = image.src;
  const figures = [...button.closest(".strip").querySelectorAll("figure")];
  const aim = figures.filter(figure => !figure.querySelector(".swap")).at(-1).querySelector("img").src;
  button.addEventListener("click", () => {
    const swapped = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(swapped));
    image.src = swapped ? aim : made;
  });
}
// Charts are drawn one by one while the browser is idle, at once when they come into view, and all before printing.
const waiting = new Set(document.querySelectorAll(".chart"));
const isShown = chart => chart.getClientRects().length > 0;
const draw = chart => {
  if (!waiting.delete(chart)) return;
  const figure = JSON.parse(document.getElementById(chart.dataset.figure).textContent);
  Plotly.newPlot(chart, figure.data, figure.layout, {
    responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
    toImageButtonOptions: {format: "svg", filename: chart.id}});
  highlight(chart);
};
// In a chart of many lines, the one under the pointer stands out.
const highlight = chart => {
  const lines = chart.data.map((trace, index) => index).filter(index => (chart.data[index].meta || {}).line);
  if (lines.length < 2) return;
  chart.on("plotly_hover", event => {
    const chosen = event.points[0].curveNumber;
    if (lines.includes(chosen)) Plotly.restyle(chart, {opacity: lines.map(index => index === chosen ? 1 : 0.15)}, lines);
  });
  chart.on("plotly_unhover", () => Plotly.restyle(chart, {opacity: 1}, lines));
};
const watch = new IntersectionObserver(entries => {
  for (const entry of entries.filter(one => one.isIntersecting)) {
    watch.unobserve(entry.target);
    draw(entry.target);
  }
}, {rootMargin: "300px"});
waiting.forEach(chart => watch.observe(chart));
const later = window.requestIdleCallback || (work => setTimeout(work, 50));
const drawNext = () => {
  const next = [...waiting].find(isShown);
  if (next === undefined) return;
  draw(next);
  later(drawNext);
};
window.addEventListener("load", () => later(drawNext));
// On paper: every chart at the width of the sheet, and nothing folded but what was folded for its length.
const PAPER = 680;
window.addEventListener("beforeprint", () => {
  [...waiting].filter(isShown).forEach(draw);
  for (const chart of document.querySelectorAll(".chart .main-svg:first-child")) {
    const plot = chart.closest(".chart");
    Plotly.relayout(plot, {width: PAPER});
  }
});
window.addEventListener("afterprint", () => {
  for (const chart of document.querySelectorAll(".chart .main-svg:first-child")) {
    Plotly.relayout(chart.closest(".chart"), {width: null, autosize: true});
  }
});
