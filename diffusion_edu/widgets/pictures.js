// Pictures of a scene (see scene.py): packed arrays -> what frame f shows -> canvas. Put before player.js by
// page.py; a new kind of panel is one more function in DRAW.

const INK = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]; // Okabe-Ito: distinct to colour-blind readers
const EMPTY = -32768; // packed NaN

function unpack(packed, buffers) {
  const { buffer, byteOffset, byteLength } = buffers[packed.buffer];
  const q = new Int16Array(buffer.slice(byteOffset, byteOffset + byteLength)); // a copy: offsets may be odd
  const x = new Float32Array(q.length);
  for (let i = 0; i < q.length; i++) x[i] = q[i] === EMPTY ? NaN : q[i] * packed.scale;
  return x;
}

function decode(scene, buffers) {
  for (const panel of scene.panels) {
    for (const series of panel.series ?? []) series.y = unpack(series.y, buffers);
    for (const layer of panel.layers ?? []) {
      for (const key of ["x", "x0", "eps", "a", "b"]) if (layer[key]) layer[key] = unpack(layer[key], buffers);
      layer.out = new Float32Array(layer.codec === "mix" ? layer.size : 0);
    }
  }
  return scene;
}

function valuesAt(layer, f) {
  const { size, out } = layer;
  if (layer.codec === "frames") {
    const last = layer.x.length / size - 1;
    return layer.x.subarray(Math.min(f, last) * size, (Math.min(f, last) + 1) * size);
  }
  const a = layer.a[f], b = layer.b[f], { x0, eps } = layer;
  for (let i = 0; i < size; i++) out[i] = a * x0[i] + b * eps[i];
  return out;
}

// ---- pictures -----------------------------------------------------------------------------------------------

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

function drawPoints(canvas, panel, f, side) {
  const ctx = prepare(canvas, side, side), half = side / 2, zoom = half / panel.extent;
  for (const layer of panel.layers) {
    const v = valuesAt(layer, f), r = { dot: 2.2, data: 2.8, ghost: 1.6, cross: 2.5 }[layer.mark];
    const plus = layer.mark === "cross" || layer.mark === "ghost"; // told from dots by shape, not only by colour
    ctx.globalAlpha = { data: 0.6, ghost: 0.6 }[layer.mark] ?? 0.9;
    let i = 0;
    layer.groups.forEach((end, colour) => {
      ctx.fillStyle = layer.mark === "data" ? "#999" : INK[colour % INK.length];
      for (; i < end; i++) {
        const x = half + zoom * v[2 * i], y = half - zoom * v[2 * i + 1];
        if (!(Math.abs(x - half) < half + 3 && Math.abs(y - half) < half + 3)) continue; // NaN too
        if (plus) { ctx.fillRect(x - r, y - 0.5, 2 * r, 1); ctx.fillRect(x - 0.5, y - r, 1, 2 * r); }
        else ctx.fillRect(x - r / 2, y - r / 2, r, r);
      }
    });
  }
  ctx.globalAlpha = 1;
}

function drawImages(canvas, panel, f, side) {
  const [n, channels, h, w] = panel.shape, columns = Math.ceil(Math.sqrt(n)), rows = Math.ceil(n / columns);
  const W = columns * (w + 1) - 1, H = rows * (h + 1) - 1, ratio = window.devicePixelRatio || 1;
  const zoom = Math.max(1, Math.floor((side * ratio) / W)) / ratio; // whole device pixels: crisp and even
  const v = valuesAt(panel.layers[0], f);
  panel.sheet ??= Object.assign(document.createElement("canvas"), { width: W, height: H });
  const sheet = panel.sheet.getContext("2d"), picture = sheet.createImageData(W, H);
  for (let i = 0; i < n * h * w; i++) {
    const k = Math.floor(i / (h * w)), y = Math.floor(i / w) % h, x = i % w;
    const at = 4 * ((Math.floor(k / columns) * (h + 1) + y) * W + (k % columns) * (w + 1) + x);
    for (let c = 0; c < 3; c++) {
      const level = v[(k * channels + (channels === 3 ? c : 0)) * h * w + y * w + x];
      picture.data[at + c] = 127.5 * (level + 1); // clamped by the array
    }
    picture.data[at + 3] = 255;
  }
  sheet.putImageData(picture, 0, 0);
  const ctx = prepare(canvas, W * zoom, H * zoom);
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(panel.sheet, 0, 0, W * zoom, H * zoom);
}

function drawCurves(canvas, panel, f, side, scene) {
  const height = Math.min(side, 250), ctx = prepare(canvas, side, height);
  const left = 34, right = side - 10, top = 12, bottom = height - 52, count = scene.time.values.length;
  const X = (i) => left + ((right - left) * i) / Math.max(1, count - 1);
  const Y = (y) => bottom - ((bottom - top) * (y - panel.low)) / (panel.high - panel.low);
  const text = getComputedStyle(canvas).color;
  Object.assign(ctx, { font: "12px system-ui, sans-serif", fillStyle: text, strokeStyle: text, textAlign: "right" });
  for (const y of [panel.low, panel.high]) ctx.fillText(String(y), left - 6, Y(y) + 4);
  ctx.globalAlpha = 0.4; ctx.strokeRect(left, top, right - left, bottom - top); ctx.globalAlpha = 1;
  ctx.textAlign = "left"; ctx.fillText(`${scene.time.label} = ${scene.time.values[0]}`, left, bottom + 16);
  ctx.textAlign = "right"; ctx.fillText(String(scene.time.values[count - 1]), right, bottom + 16);
  ctx.fillRect(X(f) - 0.5, top, 1, bottom - top);
  ctx.textAlign = "left";
  panel.series.forEach((series, k) => {
    Object.assign(ctx, { strokeStyle: INK[k], fillStyle: INK[k], lineWidth: 2 });
    ctx.setLineDash([[], [6, 4], [2, 3]][k % 3]);
    ctx.beginPath(); series.y.forEach((y, i) => ctx.lineTo(X(i), Y(y))); ctx.stroke();
    const legend = left + (k * (right - left)) / panel.series.length;
    ctx.beginPath(); ctx.moveTo(legend, height - 10); ctx.lineTo(legend + 22, height - 10); ctx.stroke();
    ctx.setLineDash([]);
    if (k % 2) ctx.fillRect(X(f) - 4, Y(series.y[f]) - 4, 8, 8);
    else { ctx.beginPath(); ctx.arc(X(f), Y(series.y[f]), 4.5, 0, 7); ctx.fill(); }
    ctx.fillStyle = text; ctx.fillText(series.label, legend + 27, height - 6);
  });
}

const DRAW = { points: drawPoints, images: drawImages, curves: drawCurves };

