"use strict";
// Gives Plotly the lines and axes that are chosen, in light or dark colours.

const report = JSON.parse(document.getElementById("report").textContent);
const plot = document.getElementById("plot");
const select = { x: document.getElementById("x"), y: document.getElementById("y") };
const button = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const themes = [
  { text: "#262626", grid: "#e2e2e2", back: "#ffffff" },
  { text: "#dddddd", grid: "#3a3a3a", back: "#262626" },
];
let dark = system.matches;

// A library of 5 MB, packed: it is unpacked here, and runs as any script of the page.
async function load() {
  const bytes = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) =>
    c.charCodeAt(0),
  );
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
}

function bars(line, name, color) {
  const [array, arrayminus] = line.bars[name] ?? [];
  return { visible: Boolean(array), symmetric: false, array, arrayminus, color, thickness: 1.2 };
}

function trace(line) {
  const [x, y] = [select.x.value, select.y.value];
  const color = line.colors[Number(dark)];
  const values = { x: line.values[x], y: line.trace.y ?? line.values[y] };
  return {
    showlegend: values.x.some((value, i) => value !== null && values.y[i] !== null),
    ...line.trace,
    ...values,
    line: { ...line.trace.line, color },
    marker: { ...line.trace.marker, color, line: { color: themes[Number(dark)].text, width: 0.7 } },
    error_x: bars(line, x, color),
    error_y: bars(line, y, color),
  };
}

function axis(name) {
  const { grid } = themes[Number(dark)];
  // A zoom is kept until something else is on the axis.
  return { ...report.axes[name], uirevision: name, gridcolor: grid, zeroline: false, automargin: true };
}

function draw() {
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
  button.textContent = dark ? "light colours" : "dark colours";
  const theme = themes[Number(dark)];
  const narrow = plot.clientWidth < 700;
  const layout = {
    uirevision: "kept", // which curves are hidden
    // As tall as a viewer's frame has room for.
    height: Math.min(Math.max(innerHeight - 140, 420), narrow ? 640 : 540),
    margin: { t: 34, r: 10, l: 60, b: 50 },
    hovermode: "closest",
    font: { family: "system-ui, sans-serif", color: theme.text },
    hoverlabel: { bgcolor: theme.back, font: { color: theme.text }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: theme.text, activecolor: theme.text },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    legend: narrow ? { orientation: "h", y: -0.2, yanchor: "top" } : {},
    xaxis: axis(select.x.value),
    yaxis: axis(select.y.value),
    yaxis2: { overlaying: "y", range: [0, 1], fixedrange: true, visible: false },
  };
  const config = {
    responsive: true,
    displaylogo: false,
    // Named one by one: among Plotly's own is one that would send the chart to a server.
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
    plotlyServerURL: "",
  };
  return Plotly.react(plot, report.lines.map(trace), layout, config);
}

load().then(() => {
  plot.replaceChildren();
  select.x.addEventListener("change", draw);
  select.y.addEventListener("change", draw);
  addEventListener("resize", draw);
  system.addEventListener("change", () => { dark = system.matches; draw(); });
  button.addEventListener("click", () => { dark = !dark; draw(); });
  return draw();
});
