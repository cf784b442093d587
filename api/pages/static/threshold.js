// The page of the threshold: the histogram with its cut-off, the curve of precision and recall, and labels by keys.
"use strict";

function lineAt(value, colour) {
  return (u) => {
    const x = u.valToPos(value(), "x", true);
    u.ctx.save();
    u.ctx.strokeStyle = colour;
    u.ctx.lineWidth = 2 * devicePixelRatio;
    u.ctx.beginPath();
    u.ctx.moveTo(x, u.bbox.top);
    u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
    u.ctx.stroke();
    u.ctx.restore();
  };
}

function keepWidth(plot, place, height) {
  new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height })).observe(place);
}

function axes(colour) {
  return [{ stroke: colour, grid: { show: false } }, { stroke: colour, size: 60, grid: { show: false } }];
}

function cutoff() {
  const form = document.getElementById("cutoff");
  if (!form) return null;
  const number = document.getElementById("cutoff-value"), slider = document.getElementById("slider");
  const place = document.getElementById("distribution");
  const bins = JSON.parse(place.dataset.bins);
  const style = getComputedStyle(document.body), colour = style.getPropertyValue("color");
  let plot = null;
  const set = (value, source) => {
    if (!Number.isFinite(value)) return;
    if (source !== number) number.value = Number(value.toFixed(6));
    if (source !== slider) slider.value = value;
    plot?.redraw(false);
  };
  number.addEventListener("input", () => set(number.valueAsNumber, number));
  slider.addEventListener("input", () => set(slider.valueAsNumber, slider));
  const use = (value) => {
    set(value, null);
    number.dispatchEvent(new Event("input", { bubbles: true }));
  };
  plot = new uPlot({
    width: place.clientWidth, height: 160, padding: [8, 8, 0, 0], legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false } },
    scales: { x: { time: false, range: [Number(slider.min), Number(slider.max)] } },
    axes: axes(colour),
    series: [{}, { stroke: "#3b82f6", fill: "#3b82f680", paths: uPlot.paths.bars({ size: [0.9], align: 1 }), points: { show: false } }],
    hooks: { draw: [lineAt(() => number.valueAsNumber, style.getPropertyValue("--bad"))] },
  }, [bins.map((bin) => bin[0]), bins.map((bin) => bin[2])], place);
  const drag = (event) => {
    if (event.buttons !== 1) return;
    const left = event.clientX - plot.over.getBoundingClientRect().left;
    use(Math.round(plot.posToVal(left, "x") * 1000) / 1000);
  };
  plot.over.addEventListener("pointerdown", (event) => { plot.over.setPointerCapture(event.pointerId); drag(event); });
  plot.over.addEventListener("pointermove", drag);
  keepWidth(plot, place, 160);
  document.getElementById("figures").addEventListener("click", (event) => {
    const button = event.target.closest("[data-use]");
    if (!button) return;
    use(Number(button.dataset.use));
    number.focus();  // the button goes with the figures
  });
  return form;
}

function curve() {
  const place = document.getElementById("curve");
  if (!place) return;
  const points = JSON.parse(place.dataset.points).sort((one, other) => one[0] - other[0]);
  const style = getComputedStyle(document.body), colour = style.getPropertyValue("color");
  const column = (index) => points.map((point) => point[index]);
  const link = style.getPropertyValue("--link"), soft = style.getPropertyValue("--soft");
  const plot = new uPlot({
    width: place.clientWidth, height: 180, legend: { show: false }, cursor: { show: false },
    scales: { x: { time: false }, y: { range: [0, 1.02] } },
    axes: axes(colour),
    bands: [{ series: [4, 3], fill: "#3b82f630" }],
    series: [
      {}, { stroke: link, width: 2, points: { show: false } },
      { stroke: soft, width: 2, dash: [6, 4], points: { show: false } },
      { stroke: "transparent", points: { show: false } }, { stroke: "transparent", points: { show: false } },
    ],
    hooks: { draw: [lineAt(() => Number(place.dataset.cutoff), style.getPropertyValue("--bad"))] },
  }, [0, 1, 2, 3, 4].map(column), place);
  keepWidth(plot, place, 180);
}

async function send(method, path, body) {
  const answer = await fetch(document.body.dataset.root + path, {
    method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  const said = await answer.json();
  if (!answer.ok) throw new Error([said.detail, said.hint].filter(Boolean).join(". "));
  return said;
}

function deck(form) {
  const place = document.getElementById("deck");
  if (!place) return;
  const cards = [...place.querySelectorAll("figure")];
  const draw = place.dataset.draw ? JSON.parse(place.dataset.draw) : null;
  const words = { reject: "rejected", accept: "accepted", "": "not labelled" };
  let at = Math.max(0, cards.findIndex((card) => !card.dataset.verdict));
  const load = (card) => { const image = card?.querySelector("img"); if (image && !image.src) image.src = image.dataset.src; };
  const show = (problem) => {
    cards.forEach((card, index) => { card.hidden = index !== at; });
    for (let ahead = 0; ahead < 3; ahead++) load(cards[at + ahead]);
    const n = cards.filter((card) => card.dataset.verdict).length;
    document.getElementById("deck-place").textContent = `${at + 1} of ${cards.length}`;
    document.getElementById("deck-state").textContent = problem || `${words[cards[at].dataset.verdict]} · ${n} labelled`;
    place.dataset.verdict = cards[at].dataset.verdict;
  };
  const move = (step) => { at = Math.min(cards.length - 1, Math.max(0, at + step)); show(); };
  const label = async (verdict) => {
    const card = cards[at], { bucket, key, etag } = card.dataset, before = card.dataset.verdict;
    card.dataset.verdict = verdict;
    if (verdict) move(1); else show();
    try {
      await send("PUT", "/v1/labels", { label_set: place.dataset.set, labels: [{ bucket, key, etag, verdict: verdict || null }], draw });
      htmx.trigger(form, "labelled");
    } catch (error) {
      card.dataset.verdict = before;
      show(`Not saved: ${error.message}`);
    }
  };
  place.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.move) move(Number(button.dataset.move));
    else if (button) label(button.dataset.label);
  });
  place.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const verdict = { r: "reject", a: "accept", u: "" }[event.key.toLowerCase()];
    if (step) move(step);
    else if (verdict !== undefined && "mayLabel" in place.dataset) label(verdict);
    else return;
    event.preventDefault();
  });
  show();
}

function saveProfile() {
  const form = document.getElementById("save-profile"), said = document.getElementById("saved");
  if (!form) return;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = {
      name: form.elements.name.value, base: form.dataset.base, margin: form.elements.margin.valueAsNumber,
      cutoff: document.getElementById("cutoff-value").valueAsNumber,
    };
    try {
      const { id } = await send("POST", "/v1/profiles", body);
      said.textContent = `Saved as ${id}. Next: `;
      const command = document.createElement("code");
      command.textContent = `dpiqa submit ${form.dataset.address} --profile ${id}`;
      said.append(command);
    } catch (error) {
      said.textContent = `Not saved: ${error.message}`;
    }
  });
}

document.addEventListener("DOMContentLoaded", () => {
  const form = cutoff();
  curve();
  if (form) deck(form);
  saveProfile();
});
document.addEventListener("htmx:afterSwap", () => {
  curve();
  document.getElementById("said").textContent = `${document.getElementById("share").textContent} rejected`;
});
