// Scripts of the pages: times in the reader's zone, progress of jobs, the histogram, marked pictures, keys.
"use strict";

function localTimes(part) {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const time of part.querySelectorAll("time[datetime]")) {
    time.title = time.textContent;
    time.textContent = format.format(new Date(time.dateTime));
  }
}

function followJob() {
  const progress = document.querySelector("[data-follow]");
  if (!progress) return;
  const events = new EventSource(progress.dataset.follow);
  const refresh = () => htmx.trigger(progress, "progress");
  events.addEventListener("progress", refresh);
  events.addEventListener("end", () => { refresh(); events.close(); });
  window.addEventListener("pagehide", () => events.close());
}

function histogram() {
  const place = document.querySelector(".histogram");
  if (!place || !window.uPlot) return;
  const bins = JSON.parse(place.dataset.bins);
  if (!bins.length) return;
  const colour = getComputedStyle(document.body).getPropertyValue("color");
  const plot = new uPlot({
    width: place.clientWidth, height: 140, legend: { show: false },
    cursor: { y: false, drag: { x: true, y: false, setScale: false } },
    scales: { x: { time: false } },
    axes: [{ stroke: colour, grid: { show: false } }, { stroke: colour, size: 60, grid: { show: false } }],
    series: [{}, { stroke: "#3b82f6", fill: "#3b82f680", paths: uPlot.paths.bars({ size: [0.9], align: 1 }), points: { show: false } }],
    hooks: { setSelect: [(u) => {
      if (u.select.width < 3) return;
      const form = document.getElementById("filters");
      form.elements.min.value = u.posToVal(u.select.left, "x").toFixed(3);
      form.elements.max.value = u.posToVal(u.select.left + u.select.width, "x").toFixed(3);
      form.requestSubmit();
    }] },
  }, [bins.map((bin) => bin[0]), bins.map((bin) => bin[2])], place);
  window.addEventListener("resize", () => plot.setSize({ width: place.clientWidth, height: 140 }));
}

function marked() {
  return [...document.querySelectorAll(".card")].filter((card) => card.querySelector("input").checked);
}

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

function exportMarked(kind) {
  const cards = marked().map((card) => card.dataset);
  if (kind === "keys") {
    save("keys.txt", "text/plain", cards.map((row) => row.key + "\n").join(""));
  } else {
    const field = (text) => `"${text.replaceAll('"', '""')}"`;
    const lines = cards.map((row) => [field(row.bucket), field(row.key), row.score].join(","));
    save("scores.csv", "text/csv", ["bucket,key,score", ...lines].join("\r\n") + "\r\n");
  }
}

function grid() {
  const place = document.getElementById("grid");
  if (!place) return;
  let at = -1;
  const show = () => {
    const n = marked().length;
    document.getElementById("selected").textContent = n ? `${n} marked. ` : "";
  };
  place.addEventListener("change", show);
  for (const button of document.querySelectorAll("[data-export]")) {
    button.addEventListener("click", () => exportMarked(button.dataset.export));
  }
  place.addEventListener("keydown", (event) => {
    const cards = [...place.querySelectorAll(".card")];
    if (!cards.length || (event.target !== place && event.target.closest(".card"))) return;
    const columns = Math.max(1, Math.round(place.clientWidth / (cards[0].offsetWidth + 12)));
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (step) {
      cards[at]?.classList.remove("at");
      at = Math.min(cards.length - 1, Math.max(0, at + step));
      cards[at].classList.add("at");
      cards[at].scrollIntoView({ block: "nearest" });
    } else if (event.key === " " && cards[at]) {
      cards[at].querySelector("input").click();
    } else if (event.key === "Enter" && cards[at]) {
      cards[at].querySelector("a").click();
    } else {
      return;
    }
    event.preventDefault();
  });
}

function examples() {
  const place = document.getElementById("uploads");
  if (!place) return;
  const inputs = () => [...place.querySelectorAll('input[type="file"]')];
  place.addEventListener("change", (event) => {
    if (event.target.type !== "file") return;
    const picture = event.target.closest(".pair").querySelector("img");
    const file = event.target.files[0];
    picture.hidden = !file;
    picture.src = file ? URL.createObjectURL(file) : "";
  });
  const several = document.getElementById("several");
  several.closest(".scripted").hidden = false;
  several.addEventListener("change", () => {
    const empty = inputs().filter((input) => !input.files.length);
    for (const file of several.files) {
      if (!empty.length) {
        const row = place.lastElementChild.cloneNode(true);
        for (const input of row.querySelectorAll("input")) input.value = "";
        place.append(row);
        empty.push(row.querySelector('input[type="file"]'));
      }
      const chosen = new DataTransfer();
      chosen.items.add(file);
      const input = empty.shift();
      input.files = chosen.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    }
    several.value = "";
  });
}

document.addEventListener("DOMContentLoaded", () => {
  localTimes(document);
  followJob();
  histogram();
  grid();
  examples();
});
document.addEventListener("htmx:afterSwap", (event) => localTimes(event.target));
