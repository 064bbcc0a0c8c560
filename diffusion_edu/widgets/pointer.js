// Pointer and keys in pictures: handles to drag, points and cells to choose.

const numeric = (label) => (label.trim() !== "" && Number.isFinite(Number(label)) ? Number(label) : label);

function dress(player, canvas, panel) { // what a canvas is to the page: its frame, its colours, whether it takes keys
  const live = panel.handles?.length > 0, table = panel.kind === "table", picks = !!pickable(panel);
  canvas.parentNode.className = `dx-${panel.kind}`;
  canvas.className = [panel.kind === "points" && "dx-framed", live && "dx-drag"].filter(Boolean).join(" ");
  canvas.title = [live && "Drag the ring", picks && "Click a point to see its way", table && "Click a cell to choose it"]
    .filter(Boolean).join(". ");
  canvas.setAttribute("role", table ? "application" : "img"); // a screen reader lets a table have its arrow keys
  if (table || picks) canvas.setAttribute("tabindex", 0);
  else canvas.removeAttribute("tabindex");
  const keys = (panel.layers ?? []).filter((layer) => layer.mark === "heat").map(keyOf);
  while (canvas.nextSibling) canvas.nextSibling.remove();
  canvas.after(...keys);
}

function attend(player, canvas, i) {
  const panel = () => player.scene.panels[i];
  const place = ({ clientX, clientY }) => {
    const box = canvas.getBoundingClientRect();
    return [clientX - box.left, clientY - box.top];
  };
  let handle = -1, dragged = false, values = {};

  const fit = (name, value) => { // what the parameter can be
    const c = player.scene.controls.find((one) => one.name === name);
    if (c?.kind !== "range") return Number(value.toPrecision(4));
    const inside = Math.max(c.low, Math.min(c.high, value));
    return c.step >= 1 ? Math.round(inside) : Number(inside.toPrecision(4));
  };
  const drag = (event) => {
    const { plot, handles } = panel(), { x, y, now } = handles[handle], [a, b] = place(event), to = [fit(x, plot.x(a)), now[1]];
    values = { [x]: to[0] };
    if (y) values[y] = to[1] = fit(y, plot.y(b));
    player.hold(i, handle, to, values);
    player.kernel.ask({ values, final: false });
  };
  const near = (event) => { // the handle under the pointer; a single one comes from afar
    const { plot, handles, pick } = panel(), [a, b] = place(event), reach = event.pointerType === "touch" ? 30 : 16;
    if (!plot || !handles?.length) return -1;
    const far = handles.map(({ live, now, y }) => live ? Math.hypot(plot.X(now[0]) - a, y ? plot.Y(now[1]) - b : 0) : Infinity);
    const least = Math.min(...far);
    return least < (handles.length === 1 && !pick ? Infinity : reach) ? far.indexOf(least) : -1;
  };
  const point = (event) => { // the point under the pointer
    const layer = pickable(panel()), { plot } = panel(), [a, b] = place(event);
    let best = -1, least = event.pointerType === "touch" ? 20 : 10;
    for (let k = 0; layer && k < layer.size / 2; k++) {
      const off = Math.hypot(plot.X(valueAt(layer, player.f, 2 * k)) - a, plot.Y(valueAt(layer, player.f, 2 * k + 1)) - b);
      if (off < least) { least = off; best = k; }
    }
    return layer ? { n: layer.size / 2, i: best } : null;
  };
  const cell = (event) => {
    const { plot, rows, columns } = panel(), [r, c] = plot.cell(...place(event));
    return r >= 0 && c >= 0 && r < rows.values.length && c < columns.values.length ? [r, c] : null;
  };
  const choose = ([r, c]) => {
    const { names, rows, columns } = panel();
    const wish = { [names[0]]: numeric(rows.values[r]), [names[1]]: numeric(columns.values[c]) };
    player.kernel.ask({ values: wish, final: true });
  };

  canvas.onpointerdown = (event) => {
    dragged = false;
    handle = event.button ? -1 : near(event);
    if (handle < 0) return;
    dragged = true;
    canvas.setPointerCapture(event.pointerId);
    canvas.style.cursor = "grabbing";
    drag(event);
  };
  canvas.onpointermove = (event) => {
    if (handle >= 0) return drag(event);
    const { kind, x } = panel();
    const hint = near(event) >= 0 ? "grab" : kind === "table" ? cell(event) && "pointer" : kind === "curves" ? !x && "col-resize"
      : point(event)?.i >= 0 && "pointer";
    canvas.style.cursor = hint || "";
  };
  canvas.onlostpointercapture = () => {
    if (handle < 0) return;
    handle = -1;
    canvas.style.cursor = "grab";
    player.dragging = null;
    player.kernel.ask({ values, final: true });
  };
  canvas.onclick = (event) => {
    const { kind, x, plot } = panel();
    if (dragged || !plot) return;
    if (kind === "table" && cell(event)) choose(cell(event));
    if (kind === "curves" && !x) {
      player.move(Math.round(plot.x(place(event)[0]))); // the frame that was pointed at
      player.kernel.ask({});
    }
    const one = kind === "points" ? point(event) : null;
    if (one) player.pick(one.i < 0 ? null : one);
  };
  canvas.onkeydown = (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key], { kind } = panel();
    const layer = pickable(panel());
    if (step && layer) {
      const n = layer.size / 2, from = player.picked?.n === n ? player.picked.i : -step[0] - step[1];
      player.pick({ n, i: (from + step[0] + step[1] + n) % n });
    } else if (kind === "table" && step) {
      const { rows, columns, values } = panel(), size = [rows.values.length, columns.values.length];
      const from = canvas.cell ?? panel().at ?? [-step[0], -step[1]];
      const to = (canvas.cell = from.map((v, k) => Math.max(0, Math.min(size[k] - 1, v + step[k]))));
      const v = values[to[0] * size[1] + to[1]], known = Number.isFinite(v) ? short(v) : "not known yet";
      player.draw();
      player.say(`${rows.label} ${rows.values[to[0]]}, ${columns.label} ${columns.values[to[1]]}: ${known}`);
    } else if (kind === "table" && (event.key === "Enter" || event.key === " ")) choose(canvas.cell ?? panel().at ?? [0, 0]);
    else return;
    event.preventDefault();
  };
  canvas.onblur = () => { if (canvas.cell) { canvas.cell = null; player.draw(); } };
  Object.entries(OWN).forEach(([key, value]) => canvas.setAttribute(key, value));
}
