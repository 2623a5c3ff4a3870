// Draws the charts of a load test's report with uPlot. The numbers come as JSON in the element "data", computed where
// the page was written; every text here is fixed, and what a user named is only in the page's tables.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const plots = [];

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

// Three significant digits: 0.123, 1.23, 12.3, 123, 12,345.
function digits(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

// "" where the cursor is on nothing.
const withUnit = (value, unit) => (Number.isFinite(value) ? digits(value) + (unit ? " " + unit : "") : "");

// 1, 2 and 5 times the powers of ten; only the powers where that would be crowded.
function logSplits(u, axis, min, max) {
  const decades = Math.log10(max / min);
  const steps = decades > 4 ? [1] : [1, 2, 5];
  const splits = [];
  for (let power = Math.floor(Math.log10(min)); power <= Math.ceil(Math.log10(max)); ++power) {
    for (const step of steps) {
      const value = step * 10 ** power;
      if (value >= min * 0.999 && value <= max * 1.001) splits.push(value);
    }
  }
  return splits;
}

function axis(label, log) {
  const line = css("grid");
  return {
    label, labelSize: 20, labelGap: 0, labelFont: "12px " + css("font"), font: "12px " + css("font"), stroke: css("muted"),
    grid: {stroke: line, width: 1}, ticks: {stroke: line, width: 1, size: 4}, gap: 4,
    values: (u, splits) => splits.map(digits),
    size: 32,
    ...(log ? {splits: logSplits, filter: (u, splits) => splits} : {}),
  };
}

function scale(log, range) {
  return {time: false, ...(log ? {distr: 3, log: 10} : {}), ...(range ? {range} : {})};
}

// A little more than the points need, so that none lies on the edge.
function around(log) {
  return (u, min, max) => {
    if (log) return [min / 1.15, max * 1.15];
    const margin = (max - min || Math.abs(max) || 1) * 0.04;
    return [min - margin, max + margin];
  };
}

// Each style differs by more than its colour: in its dashes or the shape of its points.
function look(style) {
  return {stroke: css(style), dash: {warm: [7, 3], second: [7, 3], p99: [7, 3], reference: [2, 4], failed: [2, 3]}[style]};
}

function fillOf(style, share) {
  return css(style) + Math.round(share * 255).toString(16).padStart(2, "0");
}

function base(element, chart) {
  return {
    width: Math.max(240, element.clientWidth), height: 280, pxAlign: 0,
    cursor: {drag: {x: true, y: false}, points: {size: 7}, ...(chart.sync ? {sync: {key: chart.sync}} : {})},
    legend: {live: true}, padding: [12, 14, 0, 0],
  };
}

// Vertical lines at the medians, under the curves.
function medians(chart) {
  return (u) => {
    for (const series of chart.series) {
      if (series.p50 === null) continue;
      const x = u.valToPos(series.p50, "x", true);
      u.ctx.save();
      u.ctx.strokeStyle = css(series.style);
      u.ctx.lineWidth = devicePixelRatio;
      u.ctx.setLineDash([2, 3].map((dash) => dash * devicePixelRatio));
      u.ctx.beginPath();
      u.ctx.moveTo(x, u.bbox.top);
      u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
      u.ctx.stroke();
      u.ctx.restore();
    }
  };
}

function distribution(element, chart, cumulative) {
  const stepped = uPlot.paths.stepped({align: 1});
  const key = cumulative ? "ecdf" : "hist";
  return new uPlot({
    ...base(element, chart),
    scales: {
      x: scale(true, () => [chart.x[0], chart.x[chart.x.length - 1]]),
      y: scale(false, cumulative ? () => [0, 1] : (u, min, max) => [0, max * 1.08]),
    },
    axes: [axis(chart.xlabel, true),
      {...axis(cumulative ? "share of values below" : "share of values", false), size: 52,
        values: (u, splits) => splits.map((split) => digits(split * 100) + " %")}],
    series: [{label: chart.xlabel, value: (u, value) => withUnit(value, chart.unit)}].concat(chart.series.map((series) => ({
      label: series.name, ...look(series.style), width: 2, points: {show: false},
      fill: cumulative ? undefined : fillOf(series.style, 0.18), paths: cumulative ? undefined : stepped,
      value: (u, value) => withUnit(value === null ? null : value * 100, "%"),
    }))),
    hooks: {drawClear: [medians(chart)]},
  }, [chart.x].concat(chart.series.map((series) => series[key])), element);
}

// Points of several series with x of their own, as uPlot wants them: one sorted x and a column for each.
function merge(series) {
  const rows = [];
  series.forEach((one, column) => one.x.forEach((x, i) => rows.push([x, column, one.y[i]])));
  rows.sort((a, b) => a[0] - b[0]);
  const columns = [rows.map((row) => row[0])];
  series.forEach((one, column) => columns.push(rows.map((row) => (row[1] === column ? row[2] : null))));
  return columns;
}

// Squares, so that two kinds of points differ without their colours.
function squares(u, index) {
  const path = new Path2D();
  const size = 5 * devicePixelRatio;
  const {min: minX, max: maxX} = u.scales.x, {min: minY, max: maxY} = u.scales.y;
  u.data[index].forEach((y, i) => {
    const x = u.data[0][i];
    if (y === null || x < minX || x > maxX || y < minY || y > maxY) return;
    path.rect(u.valToPos(x, "x", true) - size / 2, u.valToPos(y, "y", true) - size / 2, size, size);
  });
  return {stroke: null, fill: path, flags: 0};
}

function scatter(element, chart) {
  const columns = merge(chart.series);
  return new uPlot({
    ...base(element, chart),
    scales: {x: scale(chart.log, around(chart.log)), y: scale(chart.log, around(chart.log))},
    axes: [axis(chart.xlabel, chart.log), {...axis(chart.ylabel, chart.log), size: 56}],
    series: [{label: chart.xlabel, value: (u, value) => withUnit(value, chart.xunit)}].concat(chart.series.map((series) => {
      const shape = series.style === "cold" ? {} : {paths: squares};
      return {
        label: series.name, value: (u, value) => withUnit(value, chart.unit),
        ...(series.line ?
          {...look(series.style), width: 2, spanGaps: true, points: {show: false}} :
          {stroke: css(series.style), fill: fillOf(series.style, 0.6), width: 0, ...shape,
            ...(series.style === "cold" ? {paths: () => null, points: {show: true, size: 5, width: 0, fill: fillOf(series.style, 0.6)}} :
              {points: {show: false}})}),
      };
    })),
  }, columns, element);
}

// Sums from the first series up, so that each is drawn on those before it.
function stacked(series) {
  const sums = [];
  series.forEach((one, index) => sums.push(one.y.map((y, i) => (y || 0) + (index ? sums[index - 1][i] : 0))));
  return sums;
}

function lines(element, chart) {
  const order = chart.stack ? [...chart.series].reverse() : chart.series;
  const columns = chart.stack ? stacked(chart.series).reverse() : chart.series.map((series) => series.y);
  return new uPlot({
    ...base(element, chart),
    scales: {x: scale(false), y: {time: false, range: (u, min, max) => [0, Math.max(max * 1.08, chart.least || 1)]}},
    axes: [axis(chart.xlabel, false), {...axis(chart.ylabel, false), size: 56}],
    series: [{label: chart.xlabel, value: (u, value) => withUnit(value, "s")}].concat(order.map((series) => ({
      label: series.name, ...look(series.style), width: chart.stack ? 1 : 2, points: {show: false},
      ...(chart.stack ? {fill: css(series.style), dash: undefined, paths: uPlot.paths.stepped({align: 1})} : {spanGaps: true}),
      value: (u, value, index, i) => withUnit(i === null ? null : series.y[i], chart.unit),
    }))),
  }, [chart.x].concat(columns), element);
}

const kinds = {distribution, scatter, lines};

function draw(figure) {
  const chart = data[figure.dataset.chart];
  const element = figure.querySelector(".plot");
  element.replaceChildren();
  const plot = kinds[chart.kind](element, chart, figure.dataset.cumulative === "true");
  return {figure, element, plot};
}

function drawAll() {
  plots.splice(0).forEach(({plot}) => plot.destroy());
  document.querySelectorAll("figure[data-chart]").forEach((figure) => plots.push(draw(figure)));
}

function redraw(figure) {
  const at = plots.findIndex((one) => one.figure === figure);
  plots[at].plot.destroy();
  plots[at] = draw(figure);
}

document.querySelectorAll("button[data-cumulative]").forEach((button) => {
  button.hidden = false;
  button.addEventListener("click", () => {
    const figure = button.closest("figure");
    const cumulative = figure.dataset.cumulative !== "true";
    figure.dataset.cumulative = cumulative;
    button.setAttribute("aria-pressed", cumulative);
    redraw(figure);
  });
});

const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  drawAll();
});
dark.addEventListener("change", drawAll);

new ResizeObserver(() => {
  for (const {element, plot} of plots) {
    const width = Math.max(240, element.clientWidth);
    if (Math.abs(width - plot.width) > 1) plot.setSize({width, height: 280});
  }
}).observe(document.querySelector("main"));

drawAll();
