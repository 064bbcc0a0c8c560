// Pictures of a scene (see scene.py): packed arrays -> what frame f shows -> canvas. Put first by page.py; points and
// images are here, curves and tables in plots.js. A new kind of panel is one more function in DRAW there. Each leaves
// panel.plot, by which tools.js gets from the pointer to the data.

// Okabe-Ito: distinct to colour-blind readers
const INK = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
const DASHES = [[], [6, 4], [2, 3], [9, 3, 2, 3]];
const RAMPS = { // cividis; and one that is clear in the middle, so that zero is the page itself, light or dark
  sequential: [[0, 34, 78, 255], [26, 56, 111, 255], [67, 78, 108, 255], [97, 101, 111, 255], [125, 124, 120, 255],
    [155, 148, 118, 255], [188, 174, 108, 255], [222, 201, 88, 255], [254, 232, 56, 255]],
  diverging: [[0, 114, 178, 255], [0, 114, 178, 128], [128, 128, 128, 0], [213, 94, 0, 128], [213, 94, 0, 255]],
};
const COLOURS = Object.fromEntries(Object.entries(RAMPS).map(([name, stops]) => [name, ramp(stops)]));

function ramp(stops) { // 256 colours, four bytes each
  const table = new Uint8ClampedArray(1024), last = stops.length - 1;
  for (let i = 0; i < 256; i++) {
    const u = (i / 255) * last, k = Math.min(Math.floor(u), last - 1);
    for (let c = 0; c < 4; c++) table[4 * i + c] = stops[k][c] + (u - k) * (stops[k + 1][c] - stops[k][c]);
  }
  return table;
}

function unpack(packed, buffers) {
  const { buffer, byteOffset, byteLength } = buffers[packed.buffer];
  const Numbers = { 8: Int8Array, 16: Int16Array, 32: Float32Array }[packed.bits];
  const q = new Numbers(buffer.slice(byteOffset, byteOffset + byteLength)); // a copy: offsets may be odd
  const x = new Float32Array(q.length), empty = -(2 ** (packed.bits - 1)); // stands for NaN
  for (let i = 0; i < q.length; i++) x[i] = q[i] === empty ? NaN : q[i] * packed.scale;
  return x;
}

function decode(part, buffers) { // every {buffer, scale, bits} in it becomes an array
  for (const [key, value] of Object.entries(part)) {
    if (value && typeof value === "object") part[key] = "buffer" in value ? unpack(value, buffers) : decode(value, buffers);
  }
  return part;
}

function rowAt(values, size, f) { // of (F, size); with F = 1 the only one
  const at = Math.min(f, values.length / size - 1) * size;
  return values.subarray(at, at + size);
}
function valuesAt(layer, f) {
  if (layer.codec === "frames") return rowAt(layer.x, layer.size, f);
  const a = layer.a[f], b = layer.b[f], { x0, eps, size } = layer, out = (layer.out ??= new Float32Array(size));
  for (let i = 0; i < size; i++) out[i] = a * x0[i] + b * eps[i];
  return out;
}
function valueAt(layer, f, i) { // one number of it
  if (layer.codec === "mix") return layer.a[f] * layer.x0[i] + layer.b[f] * layer.eps[i];
  return layer.x[Math.min(f, layer.x.length / layer.size - 1) * layer.size + i];
}

// ---- drawing in general -------------------------------------------------------------------------------------------

// Gives the canvas its size in device pixels and a context in CSS pixels; resizing clears it.
function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1, w = Math.round(width * ratio), h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) {
    Object.assign(canvas, { width: w, height: h });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  return ctx;
}

function penOf(canvas) { // colours and size of text, as the page has them
  const { color, fontSize } = getComputedStyle(canvas), [r, g, b] = color.match(/[\d.]+/g).map(Number);
  const em = 0.86 * parseFloat(fontSize);
  return { text: color, paper: r + g + b > 380 ? "#000c" : "#fffc", em, font: `${em}px system-ui, sans-serif` };
}

function write(ctx, text, x, y, pen, align = "left") { // legible on whatever is under it
  Object.assign(ctx, { font: pen.font, textAlign: align, lineWidth: 3, lineJoin: "round" });
  Object.assign(ctx, { strokeStyle: pen.paper, fillStyle: pen.text });
  ctx.setLineDash([]);
  ctx.strokeText(text, x, y);
  ctx.fillText(text, x, y);
}

function trace(ctx, n, X, Y) { // a line through n places; NaN breaks it
  ctx.beginPath();
  for (let i = 0, on = false; i < n; i++) {
    const x = X(i), y = Y(i), ok = Number.isFinite(x + y);
    if (ok) on ? ctx.lineTo(x, y) : ctx.moveTo(x, y);
    on = ok;
  }
  ctx.stroke();
}

const CORNERS = [[], [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]], [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]],
  [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]];
function symbol(ctx, k, x, y, r) { // a circle, square, triangle or diamond
  ctx.beginPath();
  if (k % 4 === 0) ctx.arc(x, y, r, 0, 7);
  for (const [u, v] of CORNERS[k % 4]) ctx.lineTo(x + r * u, y + r * v);
  ctx.fill();
}

function words(ctx, text, width, start = 0) { // [line, x, word]: text broken where it would be too wide
  const space = ctx.measureText(" ").width, all = [];
  let x = start, line = 0;
  for (const word of text.split(" ")) {
    const w = ctx.measureText(word).width;
    if (x > start && x + w > width) { line++; x = start; }
    all.push([line, x, word]);
    x += w + space;
  }
  return all;
}

// ---- points -------------------------------------------------------------------------------------------------------

function drawPoints(canvas, panel, f, side, view) {
  const ctx = prepare(canvas, side, side), half = side / 2, zoom = half / panel.extent, pen = penOf(canvas);
  const plot = { X: (x) => half + zoom * x, Y: (y) => half - zoom * y, x: (X) => (X - half) / zoom, y: (Y) => (half - Y) / zoom };
  Object.assign((panel.plot = plot), { half, zoom, pen, size: Math.max(1, side / 340) });
  plot.hot = panel.layers.some((layer) => layer.mark === "heat");
  for (const layer of panel.layers) (LAYERS[layer.mark] ?? drawMarks)(ctx, layer, f, plot);
  ctx.globalAlpha = 1;
  const layer = pickable(panel), i = view.picked?.i;
  if (layer && view.picked?.n === layer.size / 2) {
    const X = (g) => plot.X(valueAt(layer, g, 2 * i)), Y = (g) => plot.Y(valueAt(layer, g, 2 * i + 1));
    ctx.setLineDash([]);
    for (const [lineWidth, strokeStyle] of [[4, pen.paper], [1.6, pen.text]]) {
      Object.assign(ctx, { lineWidth, strokeStyle, lineJoin: "round" });
      trace(ctx, view.scene.time.values.length, X, Y);
      ctx.beginPath(); ctx.arc(X(f), Y(f), 7 * plot.size, 0, 7); ctx.stroke();
    }
  }
  panel.handles?.forEach((handle) => drawHandle(ctx, handle, plot.X(handle.now[0]), plot.Y(handle.now[1]), side, pen));
}

function pickable(panel) { // the layer whose points can be picked
  return panel.pick ? panel.layers.findLast((layer) => layer.mark === "dot" || layer.mark === "cross") : undefined;
}

function drawMarks(ctx, layer, f, plot) {
  const v = valuesAt(layer, f), { half, zoom, size } = plot;
  const r = { dot: 2.2, data: 2.8, ghost: 1.6, cross: 2.5 }[layer.mark] * size;
  if (layer.tail) drawTails(ctx, layer, f, plot);
  const plus = layer.mark === "cross" || layer.mark === "ghost"; // told from dots by shape, not only by colour
  const one = (i, r, w) => {
    const x = half + zoom * v[2 * i], y = half - zoom * v[2 * i + 1];
    if (!(Math.abs(x - half) < half + 3 && Math.abs(y - half) < half + 3)) return; // NaN too
    if (plus) { ctx.fillRect(x - r, y - w / 2, 2 * r, w); ctx.fillRect(x - w / 2, y - r, w, 2 * r); }
    else ctx.fillRect(x - r / 2, y - r / 2, r, r);
  };
  let i = 0;
  if (plot.hot) { // a rim, for the colours under them may be any
    Object.assign(ctx, { globalAlpha: 0.75, fillStyle: "#fff" });
    for (i = 0; i < layer.size / 2; i++) one(i, r + 1.2, 2.2);
  }
  ctx.globalAlpha = { data: 0.6, ghost: 0.6 }[layer.mark] ?? 0.9;
  i = 0;
  layer.groups.forEach((end, colour) => {
    ctx.fillStyle = layer.mark === "data" ? "#999" : INK[colour % INK.length];
    for (; i < end; i++) one(i, r, 1);
  });
}

function drawTails(ctx, layer, f, { X, Y }) {
  const first = Math.max(0, f - layer.tail), n = f - first + 1;
  Object.assign(ctx, { globalAlpha: 0.3, lineWidth: 1, lineJoin: "bevel" });
  ctx.setLineDash([]);
  let i = 0;
  layer.groups.forEach((end, colour) => {
    ctx.strokeStyle = layer.mark === "data" ? "#999" : INK[colour % INK.length];
    for (; i < end; i++)
      trace(ctx, n, (g) => X(valueAt(layer, first + g, 2 * i)), (g) => Y(valueAt(layer, first + g, 2 * i + 1)));
  });
}

function drawHeat(ctx, layer, f, { half }) {
  const [rows, columns] = layer.shape, v = valuesAt(layer, f), frame = layer.x.length === layer.size ? 0 : f;
  layer.sheet ??= Object.assign(document.createElement("canvas"), { width: columns, height: rows });
  if (layer.painted !== frame) {
    layer.painted = frame;
    const sheet = layer.sheet.getContext("2d"), picture = (layer.picture ??= sheet.createImageData(columns, rows));
    const to = new Uint32Array(picture.data.buffer), from = new Uint32Array(COLOURS[layer.palette].buffer);
    const times = 255 / (layer.high - layer.low || 1);
    for (let i = 0; i < v.length; i++) {
      const c = Math.round((v[i] - layer.low) * times), top = rows - 1 - Math.floor(i / columns); // row 0 is at the bottom
      to[top * columns + (i % columns)] = Number.isNaN(c) ? 0 : from[Math.max(0, Math.min(255, c))];
    }
    sheet.putImageData(picture, 0, 0);
  }
  ctx.globalAlpha = 1;
  ctx.drawImage(layer.sheet, 0, 0, 2 * half, 2 * half);
}

function drawArrows(ctx, layer, f, { X, Y, zoom, pen, size }) {
  const v = valuesAt(layer, f), { base, colour } = layer;
  Object.assign(ctx, { globalAlpha: 0.85, lineWidth: 1.2 * size });
  ctx.strokeStyle = colour === null ? pen.text : INK[colour % INK.length];
  ctx.setLineDash([]);
  ctx.beginPath();
  for (let i = 0; i < base.length; i += 2) {
    const x = X(base[i]), y = Y(base[i + 1]), dx = zoom * v[i], dy = -zoom * v[i + 1], long = Math.hypot(dx, dy);
    if (!(long > 0.5)) continue; // NaN too
    const head = Math.min(5 * size, 0.45 * long) / long, a = x + dx, b = y + dy;
    ctx.moveTo(x, y); ctx.lineTo(a, b);
    ctx.moveTo(a - head * (dx - 0.6 * dy), b - head * (dy + 0.6 * dx)); ctx.lineTo(a, b);
    ctx.lineTo(a - head * (dx + 0.6 * dy), b - head * (dy - 0.6 * dx));
  }
  ctx.stroke();
}

function drawPath(ctx, layer, f, { X, Y, size, hot }) {
  const v = valuesAt(layer, f), colour = INK[layer.colour % INK.length];
  ctx.setLineDash(layer.dashed ? [6, 4] : []);
  for (const [lineWidth, strokeStyle] of hot ? [[4 * size, "#fffb"], [2 * size, colour]] : [[2 * size, colour]]) {
    Object.assign(ctx, { globalAlpha: 1, lineJoin: "round", lineWidth, strokeStyle });
    trace(ctx, layer.size / 2, (i) => X(v[2 * i]), (i) => Y(v[2 * i + 1]));
  }
}

const LAYERS = { heat: drawHeat, arrows: drawArrows, path: drawPath };

function drawHandle(ctx, handle, x, y, width, pen) {
  ctx.setLineDash([]);
  ctx.globalAlpha = handle.live ? 1 : 0.45;
  for (const [lineWidth, strokeStyle] of [[6, pen.paper], [2.5, pen.text]]) {
    Object.assign(ctx, { lineWidth, strokeStyle });
    ctx.beginPath(); ctx.arc(x, y, 0.65 * pen.em, 0, 7); ctx.stroke();
  }
  ctx.font = pen.font;
  const left = x + 1.2 * pen.em + ctx.measureText(handle.label).width > width;
  write(ctx, handle.label, x + (left ? -1 : 1) * pen.em, y - 0.6 * pen.em, pen, left ? "right" : "left");
  ctx.globalAlpha = 1;
}

// ---- images -------------------------------------------------------------------------------------------------------

function drawImages(canvas, panel, f, side) {
  const [n, channels, h, w] = panel.shape, columns = Math.ceil(Math.sqrt(n)), rows = Math.ceil(n / columns);
  const W = columns * (w + 1) - 1, H = rows * (h + 1) - 1, ratio = window.devicePixelRatio || 1;
  const zoom = Math.max(1, Math.floor((side * ratio) / W)) / ratio; // whole device pixels: crisp and even
  const v = valuesAt(panel.layers[0], f);
  panel.sheet ??= Object.assign(document.createElement("canvas"), { width: W, height: H });
  const sheet = panel.sheet.getContext("2d"), picture = (panel.picture ??= sheet.createImageData(W, H));
  const { data } = picture, green = channels === 3 ? h * w : 0; // from one channel to the next
  for (let k = 0; k < n; k++) for (let y = 0; y < h; y++) {
    let at = 4 * ((Math.floor(k / columns) * (h + 1) + y) * W + (k % columns) * (w + 1)), from = (k * channels * h + y) * w;
    for (let x = 0; x < w; x++, at += 4, from++) {
      for (let c = 0; c < 3; c++) data[at + c] = 127.5 * (v[from + c * green] + 1); // clamped by the array
      data[at + 3] = 255;
    }
  }
  sheet.putImageData(picture, 0, 0);
  const ctx = prepare(canvas, W * zoom, H * zoom);
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(panel.sheet, 0, 0, W * zoom, H * zoom);
}
