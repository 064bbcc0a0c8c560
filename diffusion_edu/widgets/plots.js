// Curves and tables of a scene, drawn as in pictures.js; put after it by page.py.

const share = ({ low, high, log }, v) => // where on an axis, 0 to 1
  log ? Math.log(v / low) / Math.log(high / low || 1) : (v - low) / (high - low || 1);
const level = ({ low, high, log }, u) => (log ? low * (high / low) ** u : low + u * (high - low));

function short(v, digits = 3) {
  const plain = v === 0 || (Math.abs(v) >= 1e-3 && Math.abs(v) < 1e5);
  return plain ? String(Number(v.toPrecision(digits))) : v.toExponential(digits - 1).replace(/\.?0*e\+?/, "e");
}

// ---- axes ---------------------------------------------------------------------------------------------------------

function ticks({ low, high, log }) { // three to five round numbers, sometimes six
  const slack = 1e-6 * (high - low), inside = (v) => v >= low - slack && v <= high + slack;
  if (log) {
    const a = Math.ceil(Math.log10(low) - 1e-6), b = Math.floor(Math.log10(high) + 1e-6);
    const powers = Array.from({ length: b - a + 3 }, (_, i) => Number(`1e${a - 1 + i}`));
    if (b - a >= 2) return powers.slice(1, -1).filter((_, i) => i % Math.ceil((b - a + 1) / 5) === 0);
    const between = powers.flatMap((ten) => (b > a ? [1, 3] : [1, 2, 5]).map((m) => m * ten)).filter(inside);
    if (between.length > 1) return between;
  }
  const ten = 10 ** Math.floor(Math.log10(high - low || 1));
  for (const step of [5, 2.5, 2, 1, 0.5, 0.25, 0.2, 0.1].map((m) => m * ten)) {
    const first = Math.ceil(low / step - 1e-6), last = Math.floor(high / step + 1e-6);
    if (last - first >= 2) return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  }
  return [low, high];
}

function xTicks(axis, values) { // [place, label] from left to right
  const last = values.length - 1, low = values[0], high = values[last], span = high - low;
  if (!axis.frames) return axis.ticks.length ? axis.ticks.map((text, i) => [i, text]) : ticks(axis).map((v) => [v, short(v, 6)]);
  if (span && values.every((v, i) => Math.abs(v - low - (i / last) * span) <= 0.01 * Math.abs(span))) { // evenly spaced
    const round = ticks({ low: Math.min(low, high), high: Math.max(low, high) });
    return (span < 0 ? round.reverse() : round).map((v) => [(last * (v - low)) / span, short(v, 6)]);
  }
  return [...new Set([0, 0.25, 0.5, 0.75, 1].map((u) => Math.round(u * last)))].map((i) => [i, short(values[i])]);
}

// Where everything goes; the legend flows under the plot, in as many lines as it needs.
function layOut(ctx, panel, side, time, em) {
  const width = (text) => ctx.measureText(text).width, { y, series } = panel;
  const x = panel.x ?? { low: 0, high: Math.max(1, time.values.length - 1), label: time.label, frames: true };
  const yMarks = ticks(y).map((v) => [v, short(v, 6)]), xMarks = xTicks(x, time.values);
  const left = Math.max(26, 8 + Math.max(...yMarks.map((m) => width(m[1])))), right = side - 12;
  const top = (y.label ? 1.9 : 0.8) * em, bottom = top + Math.min(15.5 * em, Math.max(8 * em, 0.55 * side));
  const X = (v) => left + (right - left) * share(x, v), Y = (v) => bottom - (bottom - top) * share(y, v);
  // Names that do not fit side by side are slanted.
  const longest = Math.max(...xMarks.map((m) => width(m[1]))), named = !x.frames && x.ticks.length > 1;
  const slant = named && x.ticks.length <= 12 && longest + 4 > X(1) - X(0);
  const under = bottom + (slant ? 0.7 * longest + 1.2 * em : 1.4 * em) + (x.label ? 1.35 * em : 0);
  const legend = [];
  let line = 0, along = 0;
  series.forEach((s, k) => {
    if (!s.label) return;
    const own = words(ctx, s.label, side, 2.4 * em), end = Math.max(...own.map(([, at, word]) => at + width(word)));
    if (along && along + end > side) { line++; along = 0; }
    for (const [row, at, word] of own) legend.push({ k: row || at > 2.4 * em ? -1 : k, line: line + row, at: along + at, word });
    line += own.at(-1)[0];
    along += end + 1.3 * em;
  });
  const height = Math.ceil(under + (legend.length ? (line + 1.5) * 1.35 * em : 0.4 * em));
  return { x, y, X, Y, left, right, top, bottom, under, height, xMarks, yMarks, slant, legend, width };
}

function drawAxes(ctx, g, { text, em, font }, side) {
  Object.assign(ctx, { font, fillStyle: text, strokeStyle: text, lineWidth: 1, textAlign: "left" });
  ctx.fillText(g.y.label, 0, em);
  ctx.globalAlpha = 0.4; ctx.strokeRect(g.left, g.top, g.right - g.left, g.bottom - g.top); ctx.globalAlpha = 1;
  ctx.textAlign = "right";
  for (const [v, label] of g.yMarks) {
    ctx.fillText(label, g.left - 6, g.Y(v) + 0.35 * em);
    ctx.fillRect(g.left - 3, g.Y(v) - 0.5, 3, 1);
  }
  ctx.textAlign = "center";
  ctx.fillText(g.x.label, (g.left + g.right) / 2, g.under);
  let free = -Infinity;
  for (const [v, label] of g.xMarks) {
    const half = g.width(label) / 2, at = Math.min(g.X(v), side - half); // the last may have to move in
    ctx.fillRect(g.X(v) - 0.5, g.bottom, 1, 3);
    if (g.slant) {
      ctx.save(); ctx.translate(at + 0.4 * em, g.bottom + 1.1 * em); ctx.rotate(-0.75);
      ctx.textAlign = "right"; ctx.fillText(label, 0, 0); ctx.restore();
    } else if (at - half > free) {
      ctx.fillText(label, at, g.bottom + 1.3 * em);
      free = at + half + 0.7 * em;
    }
  }
}

function drawLegend(ctx, g, series, { text, em }) {
  ctx.textAlign = "left";
  for (const { k, line, at, word } of g.legend) {
    const y = g.under + (line + 1.3) * 1.35 * em, mid = y - 0.35 * em, from = at - 2.4 * em;
    if (k >= 0) {
      const { draw } = series[k];
      Object.assign(ctx, { strokeStyle: INK[k % INK.length], fillStyle: INK[k % INK.length], lineWidth: 2 });
      if (draw === "bars" || draw === "area") fillBar(ctx, k, from, mid - 0.4 * em, 1.9 * em, 0.8 * em);
      else if (draw === "dots") symbol(ctx, k, from + em, mid, 0.33 * em);
      else { ctx.setLineDash(DASHES[k % 4]); trace(ctx, 2, (i) => from + i * 1.9 * em, () => mid); ctx.setLineDash([]); }
    }
    ctx.fillStyle = text;
    ctx.fillText(word, at, y);
  }
}

// ---- curves -------------------------------------------------------------------------------------------------------

function drawCurves(canvas, panel, f, side, { scene }) {
  const pen = penOf(canvas), measure = canvas.getContext("2d"), { series, levels } = panel;
  measure.font = pen.font;
  const g = layOut(measure, panel, side, scene.time, pen.em), { X, Y, left, right, top, bottom, x } = g;
  panel.plot = { X, Y, x: (v) => level(x, Math.max(0, Math.min(1, (v - left) / (right - left)))) };
  const ctx = prepare(canvas, side, g.height);
  drawAxes(ctx, g, pen, side);
  ctx.save();
  ctx.beginPath(); ctx.rect(left, top - 5, right - left + 6, bottom - top + 6); ctx.clip();
  Object.assign(ctx, { strokeStyle: pen.text, fillStyle: pen.text, globalAlpha: 0.6 });
  ctx.setLineDash([3, 3]);
  for (const { y } of levels) trace(ctx, 2, (i) => (i ? right : left), () => Y(y));
  const now = x.frames ? f : panel.at?.[f];
  if (now !== undefined) ctx.fillRect(X(now) - 0.5, top, 1, bottom - top);
  ctx.globalAlpha = 1;
  const bars = series.filter((s) => s.draw === "bars");
  series.forEach((s, k) => {
    const byFrame = !s.x && s.draw !== "bars" && s.size === scene.time.values.length;
    const where = (i) => X(s.x ? s.x[i] : byFrame && !x.frames && panel.at ? panel.at[i] : i);
    const zero = g.y.log ? bottom : Math.max(top, Math.min(bottom, Y(0)));
    drawSeries(ctx, s, k, f, { where, Y, bottom, zero, pen, of: bars.length, rank: bars.indexOf(s) });
    if (!byFrame || s.draw === "dots" || s.y.length > s.size || !Number.isFinite(Y(s.y[f]))) return;
    symbol(ctx, k, where(f), Y(s.y[f]), 0.38 * pen.em);
  });
  for (const { y, label } of levels) // above its line, or below where there is no room
    write(ctx, label, right - 4, Y(y) - 4 < top + pen.em ? Y(y) + 1.1 * pen.em : Y(y) - 4, pen, "right");
  ctx.restore();
  drawLegend(ctx, g, series, pen);
  for (const handle of panel.handles) {
    const at = X(handle.now[0]);
    Object.assign(ctx, { strokeStyle: pen.text, lineWidth: 1 });
    ctx.setLineDash([2, 2]);
    trace(ctx, 2, () => at, (i) => (i ? bottom : top));
    drawHandle(ctx, handle, at, bottom, right, pen);
  }
}

function fillBar(ctx, k, x, y, w, h) { // every other one is pale with an edge
  if (k % 2) { ctx.strokeRect(x + 1, y + 1, Math.max(0, w - 2), Math.max(0, h - 2)); ctx.globalAlpha = 0.35; }
  ctx.fillRect(x, y, w, h);
  ctx.globalAlpha = 1;
}

function drawSeries(ctx, s, k, f, { where, Y, bottom, zero, pen, of, rank }) {
  const n = s.size, v = rowAt(s.y, n, f), y = (i) => Y(v[i]), colour = INK[k % INK.length];
  const places = Array.from({ length: n }, (_, i) => i).filter((i) => Number.isFinite(where(i) + y(i)));
  let x = where;
  Object.assign(ctx, { strokeStyle: colour, fillStyle: colour, lineWidth: 2, lineJoin: "round" });
  ctx.setLineDash(s.draw === "line" || s.draw === "steps" ? DASHES[k % 4] : []);
  if (s.draw === "bars") {
    let gap = n > 1 ? Infinity : 40;
    for (let i = 1; i < n; i++) gap = Math.min(gap, Math.abs(where(i) - where(i - 1)));
    const w = (0.8 * gap) / of;
    x = (i) => where(i) - 0.4 * gap + (rank + 0.5) * w;
    for (const i of places)
      fillBar(ctx, k, x(i) - w / 2, Math.min(y(i), zero), Math.max(1, w > 4 ? w - 1 : w), Math.abs(zero - y(i)));
  } else if (s.draw === "dots") for (const i of places) symbol(ctx, k, x(i), y(i), 0.3 * pen.em);
  else if (s.draw === "steps") trace(ctx, 2 * n, (j) => edge(x, n, j), (j) => y(j >> 1));
  else trace(ctx, n, x, y);
  ctx.setLineDash([]);
  if (s.draw === "area") fillUnder(ctx, n, x, y, zero);
  if (!s.error) return;
  const e = rowAt(s.error, n, f);
  Object.assign(ctx, { strokeStyle: s.draw === "bars" ? pen.text : colour, lineWidth: 1.2 });
  ctx.beginPath();
  for (const i of places) if (Number.isFinite(e[i])) {
    const a = Y(v[i] + e[i]), below = Y(v[i] - e[i]), b = Number.isFinite(below) ? below : bottom; // log: down to the axis
    ctx.moveTo(x(i), a); ctx.lineTo(x(i), b);
    for (const c of [a, b]) { ctx.moveTo(x(i) - 3, c); ctx.lineTo(x(i) + 3, c); }
  }
  ctx.stroke();
}

function edge(x, n, j) { // steps change half way between two places; the outer ones are as wide
  const i = j >> 1, other = i + (j % 2 ? 1 : -1), mirrored = 2 * i - other;
  if (other >= 0 && other < n) return (x(i) + x(other)) / 2;
  return n > 1 ? x(i) + (x(i) - x(mirrored)) / 2 : x(i) + (j % 2 ? 20 : -20);
}

function fillUnder(ctx, n, x, y, zero) { // one shape for each stretch without NaN
  ctx.globalAlpha = 0.25;
  for (let i = 0, from = -1; i <= n; i++) {
    const ok = i < n && Number.isFinite(x(i) + y(i));
    if (ok && from < 0) { from = i; ctx.beginPath(); ctx.moveTo(x(i), zero); }
    if (ok) ctx.lineTo(x(i), y(i));
    else if (from >= 0) { ctx.lineTo(x(i - 1), zero); ctx.fill(); from = -1; }
  }
  ctx.globalAlpha = 1;
}

// ---- tables -------------------------------------------------------------------------------------------------------

function drawTable(canvas, panel, f, side, view) {
  const pen = penOf(canvas), { em } = pen, { rows, columns, values } = panel, measure = canvas.getContext("2d");
  measure.font = pen.font;
  const width = (text) => measure.measureText(text).width, widest = (list) => Math.max(...list.map(width));
  const texts = Array.from(values, (v) => (Number.isFinite(v) ? short(v) : "\u2026")), across = columns.values.length;
  const left = Math.min(0.4 * side, Math.max(widest(rows.values), width(rows.label)) + 10), top = 2.9 * em;
  const w = (side - left - 2) / across, h = Math.min(3.2 * em, Math.max(2.2 * em, 0.7 * w));
  const need = { cells: 1.06 * widest(texts), columns: widest(columns.values), rows: widest(rows.values) };
  const titles = [width(columns.label), width(rows.label)];
  const ctx = prepare(canvas, side, Math.ceil(top + rows.values.length * h + 3));
  const put = (text, x, y, align, room, wide, weight = "") => { // smaller where it would not fit
    Object.assign(ctx, { textAlign: align, font: `${weight} ${em * Math.min(1, room / wide)}px system-ui, sans-serif` });
    ctx.fillText(text, x, y + 0.35 * em);
  };
  panel.plot = { cell: (x, y) => [Math.floor((y - top) / h), Math.floor((x - left) / w)] };
  ctx.fillStyle = pen.text;
  put(columns.label, (left + side) / 2, 0.7 * em, "center", side - left, titles[0]);
  put(rows.label, left - 8, 2.1 * em, "right", left - 8, titles[1]);
  columns.values.forEach((text, c) => put(text, left + (c + 0.5) * w, 2.1 * em, "center", w - 4, need.columns));
  rows.values.forEach((text, r) => put(text, left - 8, top + (r + 0.5) * h, "right", left - 8, need.rows));
  const known = values.filter(Number.isFinite), least = Math.min(...known);
  const axis = { low: least, high: Math.max(...known), log: least > 0 };
  values.forEach((v, i) => {
    const x = left + (i % across) * w, y = top + Math.floor(i / across) * h;
    fillCell(ctx, Number.isFinite(v) ? share(axis, v) || 0 : NaN, x, y, w - 1, h - 1, pen);
    put(texts[i], x + (w - 1) / 2, y + (h - 1) / 2, "center", w - 6, need.cells, v === least ? "bold" : "");
  });
  for (const [cell, strokeStyle, dash] of [[panel.at, pen.text, []], [view.cell, "#E69F00", [5, 3]]]) {
    if (!cell) continue;
    Object.assign(ctx, { strokeStyle, lineWidth: 3 });
    ctx.setLineDash(dash);
    ctx.strokeRect(left + cell[1] * w - 0.5, top + cell[0] * h - 0.5, w, h);
  }
  ctx.setLineDash([]);
}

function fillCell(ctx, u, x, y, w, h, { text }) { // and leaves a colour that is legible on it
  if (Number.isFinite(u)) {
    const [r, g, b] = COLOURS.sequential.subarray(4 * Math.round(255 * Math.max(0, Math.min(1, u))));
    ctx.fillStyle = `rgb(${r}, ${g}, ${b})`;
    ctx.fillRect(x, y, w, h);
    ctx.fillStyle = 0.3 * r + 0.59 * g + 0.11 * b > 118 ? "#000" : "#fff";
    return;
  }
  Object.assign(ctx, { fillStyle: "#8883", strokeStyle: "#8886", lineWidth: 1 }); // not known yet: hatched
  ctx.save();
  ctx.beginPath(); ctx.rect(x, y, w, h); ctx.clip();
  ctx.fillRect(x, y, w, h);
  ctx.beginPath();
  for (let d = -h; d < w; d += 8) { ctx.moveTo(x + d, y + h); ctx.lineTo(x + d + h, y); }
  ctx.stroke(); ctx.restore();
  ctx.fillStyle = text;
}

const DRAW = { points: drawPoints, images: drawImages, curves: drawCurves, table: drawTable };
