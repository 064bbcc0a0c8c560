// The player of every explorer: shows a scene with the functions of pictures.js, scrubs time here in the browser
// and asks the kernel for another scene when a parameter changes. It is the ESM of the anywidget, and is inlined in
// pages without a kernel, where `model` is marked offline and answers with scenes computed beforehand.

const LOG_STEPS = 400; // positions of a slider spaced by powers

function node(tag, attributes = {}, ...children) {
  const el = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) el.setAttribute(key, value);
  el.append(...children);
  return el;
}

// A number that is reported when it is left or Enter is pressed; answers do not overwrite what is being typed.
function numberField(attributes, report) {
  const field = node("input", { ...OWN, type: "number", ...attributes });
  field.put = (value) => { if (!field.typing) field.value = value; };
  field.oninput = () => { field.typing = true; };
  field.onblur = field.onchange = () => {
    if (!field.typing) return;
    field.typing = false;
    report(field.value);
  };
  field.onkeydown = (event) => { if (event.key === "Enter") field.onblur(); }; // JupyterLab keeps its default away
  return field;
}

// ---- the player -----------------------------------------------------------------------------------------------

class Player {
  constructor(model, el) {
    this.kernel = new Kernel(model, this);
    Object.assign(this, { f: 0, playing: false, dragging: null, picked: null, offline: !!model.offline });
    Object.assign(this, { inputs: new Map(), held: new Map() }); // held: handles that stand where the reader put them
    this.build();
    el.replaceChildren(this.root);
    const { scene, version, buffers } = model.get("state");
    this.version = version;
    this.accept(scene, buffers, false);
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (scene.play && !calm) this.play(true);
    if (!this.offline) this.kernel.ask({}); // catches up if the explorer has moved on since it was sent
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.panels);
    this.seen = new IntersectionObserver((entries) => {
      this.visible = entries.at(-1).isIntersecting;
      if (this.visible) this.draw(); // the theme may have changed meanwhile
    });
    this.seen.observe(this.root);
  }

  build() {
    this.panels = node("div", { class: "dx-panels" });
    this.button = node("button", { ...OWN, type: "button" });
    this.range = node("input", { ...OWN, type: "range", min: 0, step: 1 });
    this.entry = numberField({ step: "any" }, (text) => {
      this.move(text === "" ? this.f : this.nearest(Number(text)));
      this.kernel.ask({});
    });
    this.speed = node("select", { ...OWN, "aria-label": "speed", title: "Speed of playing" });
    for (const s of [0.25, 0.5, 1, 2, 4]) this.speed.append(node("option", { value: s }, `${s}x`));
    this.speed.value = "1";
    this.resetButton = node("button", { ...OWN, type: "button", title: "Back to the first settings" }, "Reset");
    this.caption = node("label", { for: (this.range.id = `dx-${this.kernel.view}`) });
    this.status = node("p", { class: "dx-text", role: "status", "aria-live": "polite" });
    this.controls = node("div", { class: "dx-controls" });
    this.notes = node("div", { class: "dx-notes", role: "alert" });
    this.clock = [this.button, this.caption, this.range, this.entry, this.speed];
    const time = node("div", { class: "dx-time" }, ...this.clock, this.resetButton);
    this.tools = new Tools(this);
    this.root = node("div", { class: "dx", role: "group" }, this.panels, time, this.status, this.notes,
      ...this.tools.parts, this.controls);
    this.root.onkeydown = (event) => this.tools.keydown(event);
    // The colour of the text has a transition, so its start tells of another theme; its end is often cancelled.
    this.root.ontransitionrun = (event) => event.target === this.root && setTimeout(() => this.draw(), 50);
    this.button.onclick = () => {
      this.play(!this.playing);
      if (!this.playing) this.kernel.ask({}); // tells the kernel where t was left
    };
    this.range.oninput = () => this.move(Number(this.range.value));
    this.range.onchange = () => this.kernel.ask({});
    this.resetButton.onclick = () => {
      this.play(false);
      this.restart = true;
      this.kernel.ask({ reset: true });
    };
    this.play(false);
  }

  get t() { return this.scene.time.values[this.f]; }
  nearest(t) {
    const off = this.scene.time.values.map((v) => Math.abs(v - t));
    return off.indexOf(Math.min(...off));
  }

  move(f) { // by the reader, whose wish outdoes playing and a reset still on its way
    this.play(false);
    this.restart = false;
    this.show(f);
  }

  // The old picture stays until this one is decoded; all of the exchange happens within one task.
  accept(scene, buffers, mine) {
    const theirs = scene.time.values[scene.time.at], news = !mine && theirs !== this.told;
    const keep = this.scene && !this.restart && !news ? this.t : theirs;
    Object.assign(this, { told: theirs, restart: false }); // what the kernel takes for t
    const kinds = (s) => s?.panels.map((p) => p.kind).join();
    const same = kinds(scene) === kinds(this.scene);
    this.scene = decode(structuredClone(scene), buffers); // a copy: other views get the same message
    this.root.setAttribute("aria-label", scene.title);
    if (!same) {
      this.panels.replaceChildren(...scene.panels.map(() => node("figure", {}, node("figcaption"), node("canvas"))));
      this.held.clear();
      this.dragging = null;
      this.canvases = [...this.panels.querySelectorAll("canvas")];
      this.canvases.forEach((canvas, i) => attend(this, canvas, i));
    }
    scene.panels.forEach((panel, i) => {
      this.canvases[i].previousSibling.textContent = panel.title;
      dress(this, this.canvases[i], panel);
    });
    const { values } = scene.time;
    this.range.max = values.length - 1;
    for (const part of this.clock) part.hidden = values.length < 2;
    if (values.length < 2) this.play(false);
    Object.assign(this.entry, { min: levelText(Math.min(...values)), max: levelText(Math.max(...values)) });
    for (const input of [this.range, this.entry]) input.title = scene.time.help;
    this.range.setAttribute("aria-label", scene.time.label);
    this.entry.setAttribute("aria-label", `${scene.time.label} (number)`);
    this.caption.textContent = scene.time.label;
    this.showNotes(scene.notes);
    this.update(scene.controls);
    this.tools.accept(scene);
    this.settle();
    this.show(this.nearest(keep));
    if (scene.coarse && !this.dragging && this.kernel.idle) this.kernel.ask({ final: true });
  }

  refuse(answer) {
    this.warn(answer.error);
    this.update(answer.controls);
  }
  warn(text) { this.showNotes([...this.scene.notes, { level: "error", text }]); }
  showNotes(notes) {
    if (JSON.stringify(notes) === this.noted) return; // an alert that did not change is not read out again
    this.noted = JSON.stringify(notes);
    this.notes.replaceChildren(...notes.map((n) => node("p", { class: n.level }, n.text)));
  }
  say(text) { if (this.status.textContent !== text) this.status.textContent = text; }
  wait(on) {
    if (on) this.say("Waiting for the kernel: it is busy, or has stopped (then run the cell again).");
    else if (this.waiting) this.say(this.scene.text[this.f]);
    this.waiting = on;
  }

  show(f) {
    this.f = Math.max(0, Math.min(f, this.scene.time.values.length - 1));
    this.range.value = this.f;
    this.range.setAttribute("aria-valuetext", `${this.scene.time.label} = ${levelText(this.t)}`);
    this.entry.put(levelText(this.t));
    this.say(this.scene.text[this.f]);
    this.draw();
  }
  draw() {
    this.scene.panels.forEach((panel, i) => {
      const canvas = this.canvases[i], side = Math.floor(canvas.parentNode.clientWidth);
      if (side < 20) return; // hidden: keep what is there
      panel.handles?.forEach((h, k) => Object.assign(h, { now: this.held.get(`${i}/${k}`)?.to ?? h.at, live: this.moves(h) }));
      DRAW[panel.kind](canvas, panel, this.f, side, { scene: this.scene, picked: this.picked, cell: canvas.cell });
      canvas.setAttribute("data-frame", levelText(this.t));
      canvas.setAttribute("aria-label", `${panel.title}: ${this.scene.text[this.f]}`);
    });
  }

  // ---- what the pointer does in pictures (see tools.js)
  pick(one) { this.picked = one; this.draw(); }
  moves({ x, y }) { // whether its parameters can be changed now
    const c = this.scene.controls.find(({ name }) => name === x || name === y);
    return c ? c.enabled : !this.offline;
  }
  hold(i, k, to, values) {
    this.dragging = `${i}/${k}`;
    this.held.set(this.dragging, { to, values });
    for (const c of this.scene.controls) if (c.name in values && c.kind === "range")
      this.inputs.get(c.name).set({ ...c, value: values[c.name] });
    this.draw();
  }
  settle() { // handles that nobody holds and no answer is due for go where the scene has them
    const due = ({ values }) => Object.keys(values).some((name) => this.kernel.asked(name));
    const free = [...this.held.keys()].filter((key) => key !== this.dragging && !due(this.held.get(key)));
    for (const key of free) this.held.delete(key);
    if (!free.length) return;
    this.update(this.scene.controls); // sliders had followed
    this.draw();
  }

  play(on) {
    this.playing = on;
    this.button.textContent = on ? "\u275A\u275A" : "\u25B6";
    this.button.setAttribute("aria-label", on ? "pause" : "play");
    this.button.title = on ? "Pause" : "Play";
    this.status.setAttribute("aria-live", on ? "off" : "polite"); // no reading out of every frame
    cancelAnimationFrame(this.ticket);
    if (!on) return;
    let from = performance.now(), start = this.f;
    const tick = (now) => {
      const count = this.scene.time.values.length, rate = Math.max(count / 6, Math.min(count / 2, 10));
      if (this.f !== this.last) { from = now; start = this.f; } // someone else moved it
      const f = Math.floor(start + (Math.max(0, now - from) / 1000) * rate * this.speed.value);
      if (!this.visible) { from = now; start = this.f; } // out of sight: no work
      else if (f > count - 1 + rate) { start = 0; from = now; this.show(0); } // rests a second on the last frame
      else if (f !== this.f && (this.f < count - 1 || f < count)) this.show(f);
      this.last = this.f;
      this.ticket = requestAnimationFrame(tick);
    };
    this.last = this.f;
    this.ticket = requestAnimationFrame(tick);
  }

  close() { // and let go of the arrays, whoever still holds the player
    this.play(false);
    this.tools.present(false);
    for (const observer of [this.resized, this.seen]) observer.disconnect();
    clearTimeout(this.kernel.timer);
    this.scene.panels = this.canvases = [];
  }

  // ---- parameters
  update(controls) {
    const known = (c) => this.inputs.get(c.name)?.kind === c.kind;
    if (!controls.every(known) || controls.length !== this.inputs.size) {
      this.inputs.clear();
      this.controls.replaceChildren(...controls.map((c) => (c.kind === "choice" ? this.choice(c) : this.slider(c))));
    }
    for (const c of controls) if (this.dragging !== c.name && !this.kernel.asked(c.name)) this.inputs.get(c.name).set(c);
  }
  row(c, ...inputs) {
    const id = (inputs[0].id = `dx-${this.kernel.view}-${c.name}`);
    for (const input of inputs) Object.assign(input, { title: c.help, disabled: true });
    return node("div", { class: "dx-row" }, node("label", { for: id, title: c.help }, c.label), ...inputs);
  }
  choice(c) {
    const select = node("select", { ...OWN, "aria-label": c.label, style: "grid-column: 2 / 4" });
    select.onchange = () => this.kernel.ask({ values: { [c.name]: select.value }, final: true });
    this.inputs.set(c.name, { kind: c.kind, set: (now) => {
      if ([...select.options].map((o) => o.value).join() !== now.choices.join())
        select.replaceChildren(...now.choices.map((v) => node("option", { value: v }, v.replaceAll("_", " "))));
      select.value = now.value;
      select.disabled = !now.enabled;
    } });
    return this.row(c, select);
  }
  slider(c) {
    const range = node("input", { ...OWN, type: "range", "aria-label": c.label });
    let now = c, place;
    const entry = numberField({ step: c.step >= 1 ? 1 : "any", "aria-label": `${c.label} (number)` }, (text) => {
      if (text === "") entry.put(now.value);
      else send(Number(text), true);
    });
    const value = () => {
      if (!now.log) return Number(range.value);
      const v = Number((now.low * (now.high / now.low) ** (range.value / LOG_STEPS)).toPrecision(3));
      if (now.step < 1) return v;
      return Math.round(v) === now.value ? now.value + Math.sign(range.value - place) : Math.round(v); // a key moves it
    };
    const send = (v, final) => this.kernel.ask({ values: { [c.name]: v }, final });
    range.oninput = () => {
      this.dragging = c.name;
      entry.value = value();
      range.setAttribute("aria-valuetext", entry.value);
      send(value(), false);
    };
    range.onchange = range.onpointerup = range.onblur = () => {
      this.dragging = null;
      if (this.scene.coarse && this.kernel.idle) this.kernel.ask({ final: true });
    };
    this.inputs.set(c.name, { kind: c.kind, set: (next) => {
      now = next;
      Object.assign(range, now.log ? { min: 0, max: LOG_STEPS, step: 1 } : { min: now.low, max: now.high, step: now.step });
      range.value = now.log ? (LOG_STEPS * Math.log(now.value / now.low)) / Math.log(now.high / now.low) : now.value;
      Object.assign(entry, { min: now.low, max: now.high });
      place = range.value; // of the value, in whole steps
      entry.put(now.value);
      range.setAttribute("aria-valuetext", String(now.value));
      range.disabled = entry.disabled = !now.enabled;
    } });
    return this.row(c, range, entry);
  }
}

function render({ model, el }) {
  const player = new Player(model, el);
  const pushed = () => {
    const { scene, version, buffers } = model.get("state");
    player.version = version;
    player.accept(scene, buffers, false);
    player.kernel.pump();
  };
  const heard = (answer, buffers) => player.kernel.hear(answer, buffers);
  model.on("change:state", pushed);
  model.on("msg:custom", heard);
  return () => { player.close(); model.off("change:state", pushed); model.off("msg:custom", heard); };
}

export default { render };
