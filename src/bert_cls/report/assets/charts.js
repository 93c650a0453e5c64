// Charts: what they share in looks, tooltips, keys, and the table beneath.

const charts = [];
const waiting = [];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

function forgetCharts() {
  charts.splice(0).forEach((chart) => chart.destroy());
  waiting.length = 0;
}

// Charts are drawn once their place is in the document, for only then it has a width.
function drawCharts() {
  for (const chart of charts.filter((c) => !c.canvas.isConnected)) {
    charts.splice(charts.indexOf(chart), 1);
    chart.destroy();
  }
  for (const { canvas, spoken, build } of waiting.splice(0)) {
    const chart = new Chart(canvas, build());
    charts.push(chart);
    walkWithKeys(chart, canvas, spoken);
  }
}

// `build` gives a Chart.js configuration; `numbers` is the table that says the same.
function chartFigure({ caption = "", label, build, numbers = null, size = "" }) {
  const canvas = element("canvas", { role: "img", tabindex: 0, "aria-label": label + ". " + say("chart.keys") });
  const spoken = element("div", { class: "spoken", "aria-live": "polite" });
  waiting.push({ canvas, spoken, build });
  return element(
    "figure",
    {},
    caption ? element("figcaption", {}, caption) : null,
    element("div", { class: "canvas " + size }, canvas, spoken),
    numbers ? more(say("chart.numbers"), numbers) : null,
  );
}

function walkWithKeys(chart, canvas, spoken) {
  let at = -1;
  const places = chart.data.datasets.flatMap((set, datasetIndex) =>
    set.walk === false ? [] : set.data.map((_, index) => ({ datasetIndex, index })),
  );
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !places.length) return;
    event.preventDefault();
    at = at < 0 && step < 0 ? places.length - 1 : (at + step + places.length) % places.length;
    const place = places[at];
    const point = chart.getDatasetMeta(place.datasetIndex).data[place.index];
    chart.setActiveElements([place]);
    chart.tooltip.setActiveElements([place], { x: point.x, y: point.y });
    chart.update("none");
    spoken.textContent = [...(chart.tooltip.title || []), ...chart.tooltip.body.flatMap((b) => b.lines)].join(", ");
  });
  canvas.addEventListener("blur", () => {
    chart.setActiveElements([]);
    chart.tooltip.setActiveElements([], { x: 0, y: 0 });
    chart.update("none");
  });
}

function axis(title, extra = {}) {
  return {
    title: { display: true, text: title, color: colour("soft"), font: fontOf(12.5) },
    grid: { color: colour("line"), tickLength: 0 },
    border: { color: colour("line") },
    ticks: { color: colour("soft"), font: fontOf(12), padding: 6, maxRotation: 0, includeBounds: false, callback: extra.type === "category" ? ofCategory : tick },
    ...extra,
  };
}

function ofCategory(value) {
  return this.getLabelForValue(value);
}

function tick(value) {
  if (typeof value !== "number") return value;
  const size = Math.abs(value);
  // neighbours on an axis may differ in a late digit
  if (size >= LARGE || (size && size < SMALL)) return Number(value.toPrecision(6)).toExponential().replace("e+", "e");
  return value.toLocaleString(locale(), { maximumSignificantDigits: 6 });
}

const share = (title) => axis(title, { type: "linear", min: 0, max: 1 });
const fontOf = (size) => ({ family: getComputedStyle(document.body).fontFamily, size });

function looks({ x, y, tooltip = {}, legend = true, mode = "nearest", ...more }) {
  return {
    responsive: true,
    maintainAspectRatio: false,
    animation: false,
    clip: false,
    scales: { x, y, ...more.scales },
    interaction: { mode, intersect: false },
    plugins: {
      legend: {
        display: legend,
        align: "start",
        labels: { color: colour("ink"), font: fontOf(12.5), usePointStyle: true, boxHeight: 7, filter: (item) => item.text !== "" },
      },
      tooltip: {
        backgroundColor: colour("ink"),
        titleColor: colour("paper"),
        bodyColor: colour("paper"),
        titleFont: { ...fontOf(12.5), weight: "600" },
        bodyFont: fontOf(12.5),
        padding: 9,
        cornerRadius: 7,
        displayColors: false,
        callbacks: tooltip,
      },
    },
  };
}

const diagonal = (label, low = 0, high = 1) => ({
  label,
  data: [{ x: low, y: low }, { x: high, y: high }],
  borderColor: colour("soft"),
  borderDash: [4, 5],
  borderWidth: 1.25,
  pointRadius: 0,
  pointHitRadius: 0,
  pointStyle: "line",
  walk: false,
});

const points = (xs, ys) => xs.map((x, i) => ({ x, y: ys[i] }));

// Thin lines behind the data, too many to be data sets of their own.
const behind = (lines) => ({
  id: "behind",
  beforeDatasetsDraw(chart) {
    const { ctx, scales, chartArea: area } = chart;
    ctx.save();
    ctx.beginPath();
    ctx.rect(area.left, area.top, area.width, area.height);
    ctx.clip();
    ctx.strokeStyle = colour("faint");
    ctx.globalAlpha = Math.max(0.45, Math.min(1, 12 / lines.length));
    ctx.lineWidth = 1;
    for (const line of lines) {
      ctx.beginPath();
      line.forEach(({ x, y }, i) => ctx[i ? "lineTo" : "moveTo"](scales.x.getPixelForValue(x), scales.y.getPixelForValue(y)));
      ctx.stroke();
    }
    ctx.restore();
  },
});

// Bounds of each point of the first data set that has any, as upright lines.
const whiskers = (bounds) => ({
  id: "whiskers",
  beforeDatasetsDraw(chart) {
    const { ctx, scales } = chart;
    ctx.save();
    ctx.strokeStyle = colour("model");
    ctx.globalAlpha = 0.4;
    ctx.lineWidth = 3;
    ctx.lineCap = "round";
    chart.getDatasetMeta(0).data.forEach((point, i) => {
      if (!bounds[i]) return;
      ctx.beginPath();
      ctx.moveTo(point.x, scales.y.getPixelForValue(bounds[i][0]));
      ctx.lineTo(point.x, scales.y.getPixelForValue(bounds[i][1]));
      ctx.stroke();
    });
    ctx.restore();
  },
});
