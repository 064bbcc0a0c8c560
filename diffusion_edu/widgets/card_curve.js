// The curve of a predict card; put before card.js, whose helpers it uses, by card_view.py.
// makePart -> {el, hint, guess() or null, freeze(guess), reveal(answer) -> verdict}

const INK = ["#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"], YOURS = "#D55E00"; // Okabe-Ito
const DASHES = ["", "8 4", "2 3", "9 3 2 3", "5 2"];
const KNOTS = 40, STRIDE = 5; // knots of the drawn curve after the first; of those a key moves

const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function ticks(low, high) {
  const rough = (high - low) / 4, ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 5, 10].find((m) => m * ten >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-6); k * step <= high + 1e-6 * step; k++) found.push(k * step);
  return found;
}

function makePart({ x, y, marks }, id, changed) {
  const [W, H, left, top, right, bottom] = [330, 230, 44, 24, 18, 36];
  const px = (v) => left + ((v - x.low) / (x.high - x.low)) * (W - left - right);
  const py = (v) => H - bottom - ((v - y.low) / (y.high - y.low)) * (H - top - bottom);
  const xAt = (k) => x.low + (k / KNOTS) * (x.high - x.low);
  const path = (xs, ys) => ys.map((v, i) => (v === null ? "" : `${i && ys[i - 1] !== null ? "L" : "M"}${px(xs[i])} ${py(v)}`)).join("");
  const line = (a) => draw("path", { fill: "none", "stroke-linejoin": "round", "stroke-linecap": "round", ...a });
  const text = (a, s) => draw("text", { fill: "currentColor", ...a }, s);
  const xs = Array.from({ length: KNOTS + 1 }, (_, k) => xAt(k)), ys = xs.map(() => null);
  const mine = line({ stroke: YOURS, "stroke-width": 4 }), pen = draw("circle", { r: 6, fill: "none", stroke: YOURS, "stroke-width": 2 });
  const truth = draw("g"), key = node("div", { class: "dxc-key" });
  const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, tabindex: 0, role: "slider", "aria-labelledby": `${id}-q`,
    "aria-orientation": "vertical", "aria-valuemin": y.low, "aria-valuemax": y.high });
  for (const v of ticks(x.low, x.high)) svg.append(
    line({ d: `M${px(v)} ${py(y.low)}V${py(y.high)}`, stroke: "currentColor", "stroke-opacity": 0.15 }),
    text({ x: px(v), y: H - bottom + 15, "text-anchor": "middle" }, short(v)));
  for (const v of ticks(y.low, y.high)) svg.append(
    line({ d: `M${px(x.low)} ${py(v)}H${px(x.high)}`, stroke: "currentColor", "stroke-opacity": 0.15 }),
    text({ x: left - 5, y: py(v) + 4, "text-anchor": "end" }, short(v)));
  svg.append(line({ d: `M${left} ${top}V${H - bottom}H${W - right}`, stroke: "currentColor" }),
    text({ x: left, y: 13, "font-weight": 600 }, `\u2191 ${y.label}`),
    text({ x: W - right, y: H - 5, "text-anchor": "end", "font-weight": 600 }, `${x.label} \u2192`), mine, truth, pen);
  for (const [a, b] of marks) svg.append(draw("circle", { cx: px(a), cy: py(b), r: 5, fill: "currentColor" }));
  let at = 0, last = null, frozen = false;
  const show = () => {
    mine.setAttribute("d", path(xs, ys));
    const v = ys[at], drawn = v !== null;
    pen.style.display = drawn && !frozen ? "" : "none";
    if (drawn) { pen.setAttribute("cx", px(xs[at])); pen.setAttribute("cy", py(v)); }
    svg.setAttribute("aria-valuenow", drawn ? v : y.low);
    svg.setAttribute("aria-valuetext", drawn ? `${y.label} ${short(v)} at ${x.label} ${short(xs[at])}` : "nothing drawn yet");
    changed();
  };
  const join = (a, b, from, to) => { // straight from knot a to knot b
    for (let k = Math.min(a, b); k <= Math.max(a, b); k++) ys[k] = a === b ? to : from + ((k - a) / (b - a)) * (to - from);
  };
  const stroke = (event) => {
    const box = svg.getBoundingClientRect(), scale = W / box.width;
    const u = ((event.clientX - box.left) * scale - left) / (W - left - right);
    const w = (H - bottom - (event.clientY - box.top) * scale) / (H - top - bottom);
    at = clip(Math.round(u * KNOTS), 0, KNOTS);
    const v = y.low + clip(w, 0, 1) * (y.high - y.low);
    if (last) join(last[0], at, last[1], v);
    else ys[at] = v;
    last = [at, v];
    show();
  };
  svg.onpointerdown = (event) => {
    if (frozen || event.button) return;
    svg.setPointerCapture(event.pointerId);
    last = null;
    stroke(event);
    svg.onpointermove = stroke;
  };
  svg.onpointerup = svg.onpointercancel = () => { svg.onpointermove = null; };
  svg.onkeydown = (event) => {
    const dx = { ArrowLeft: -STRIDE, ArrowRight: STRIDE, Home: -KNOTS, End: KNOTS }[event.key];
    const dy = { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 }[event.key];
    if (frozen || (!dx && !dy) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (!complete()) { at = 0; ys.fill(marks[0]?.[1] ?? (y.low + y.high) / 2); } // a level line to begin with
    at = clip(Math.round(at / STRIDE) * STRIDE + (dx ?? 0), 0, KNOTS);
    if (dy) {
      const v = clip(ys[at] + (dy / KNOTS) * (y.high - y.low), y.low, y.high);
      for (const end of [at - STRIDE, at + STRIDE]) if (end >= 0 && end <= KNOTS) join(end, at, ys[end], v);
    }
    show();
  };
  const complete = () => { // gaps are bridged, the ends may be short
    const drawn = ys.flatMap((v, k) => (v === null ? [] : [k]));
    return drawn.length > 1 && drawn[0] <= 0.1 * KNOTS && drawn.at(-1) >= 0.9 * KNOTS;
  };
  const guess = () => {
    if (!complete()) return null;
    const drawn = ys.flatMap((v, k) => (v === null ? [] : [k])), whole = [...ys];
    for (let k = 0; k <= KNOTS; k++) if (ys[k] === null) {
      const a = drawn.findLast((d) => d < k), b = drawn.find((d) => d > k);
      whole[k] = a === undefined ? ys[b] : b === undefined ? ys[a] : ys[a] + ((k - a) / (b - a)) * (ys[b] - ys[a]);
    }
    return whole;
  };
  const legend = (label, attributes) => key.append(node("span", {},
    draw("svg", { viewBox: "0 0 34 12", "aria-hidden": true }, line({ d: "M2 6H32", ...attributes })), label));
  show();
  return {
    el: node("div", {}, svg, key), guess,
    hint: "Draw from the left edge to the right edge. With keys: left and right choose a place, up and down move the line.",
    freeze(whole) {
      frozen = true;
      const n = whole.length - 1;
      xs.length = ys.length = 0;
      whole.forEach((v, k) => { xs.push(x.low + (k / n) * (x.high - x.low)); ys.push(v); });
      at = 0;
      show();
      svg.setAttribute("aria-readonly", true);
    },
    reveal(found) {
      const value = (v) => { // of the drawn curve
        const u = clip((v - x.low) / (x.high - x.low), 0, 1) * (ys.length - 1), k = Math.min(Math.floor(u), ys.length - 2);
        return ys[k] + (u - k) * (ys[k + 1] - ys[k]);
      };
      legend("yours", { stroke: YOURS, "stroke-width": 4 });
      const gaps = found.curves.map(([label, right], k) => {
        const how = { stroke: INK[k % 5], "stroke-width": 2.5, "stroke-dasharray": DASHES[k % 5] };
        truth.append(line({ d: path(found.x, right), ...how }));
        legend(label, how);
        const off = found.x.map((v, i) => Math.abs(value(v) - right[i]) / (y.high - y.low));
        let sum = 0; // the mean over the axis: the points need not be equally far apart
        for (let i = 1; i < off.length; i++) sum += ((off[i] + off[i - 1]) / 2) * (found.x[i] - found.x[i - 1]);
        const most = Math.max(...off);
        return { label, mean: sum / (found.x.at(-1) - found.x[0]), most, where: found.x[off.indexOf(most)] };
      });
      const best = gaps.reduce((a, b) => (b.mean < a.mean ? b : a)), per = (v) => `${Math.round(100 * v)} %`;
      const good = best.mean <= 0.1;
      return [`${good ? "\u2713 Close" : "\u2717 Some way off"}: `, ...(gaps.length > 1 ? ["nearest to ", node("strong", {}, best.label), ", "] : []),
        `${per(best.mean)} of the axis away on average, at most ${per(best.most)} (at ${x.label} = ${short(best.where)}).`];
    },
  };
}
