// The page of a comparison: a point for each image, by both of its scores.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("scatter");
  if (!place || !window.uPlot) return;
  const points = JSON.parse(place.dataset.points), cutoffs = JSON.parse(place.dataset.cutoffs);
  const names = JSON.parse(place.dataset.names);
  const style = getComputedStyle(document.body), colour = style.getPropertyValue("color");
  const dots = (u) => {
    u.ctx.save();
    u.ctx.fillStyle = `${style.getPropertyValue("--dot")}`;
    const size = 2 * devicePixelRatio;
    for (const [x, y] of points) {
      u.ctx.beginPath();
      u.ctx.arc(u.valToPos(x, "x", true), u.valToPos(y, "y", true), size, 0, 2 * Math.PI);
      u.ctx.fill();
    }
    u.ctx.strokeStyle = style.getPropertyValue("--bad");
    u.ctx.lineWidth = devicePixelRatio;
    u.ctx.beginPath();
    if (cutoffs[0] !== null) {
      const x = u.valToPos(cutoffs[0], "x", true);
      u.ctx.moveTo(x, u.bbox.top);
      u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
    }
    if (cutoffs[1] !== null) {
      const y = u.valToPos(cutoffs[1], "y", true);
      u.ctx.moveTo(u.bbox.left, y);
      u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
    }
    u.ctx.stroke();
    u.ctx.restore();
  };
  const range = (index) => {
    const values = [...points.map((point) => point[index]), ...(cutoffs[index] === null ? [] : [cutoffs[index]])];
    const low = Math.min(...values), high = Math.max(...values), edge = (high - low || 0.1) * 0.03;
    return [low - edge, high + edge];
  };
  const sorted = [...points].sort((one, other) => one[0] - other[0]);
  const axis = (label) => ({ label, stroke: colour, size: 60, grid: { show: false } });
  const plot = new uPlot({
    width: place.clientWidth, height: 360, legend: { show: false }, cursor: { show: false },
    scales: { x: { time: false, range: range(0) }, y: { range: range(1) } },
    axes: names.map(axis),
    series: [{}, { paths: () => null, points: { show: false } }],
    hooks: { draw: [dots] },
  }, [sorted.map((point) => point[0]), sorted.map((point) => point[1])], place);
  new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: 360 })).observe(place);
});
