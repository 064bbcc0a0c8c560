// How the player asks the kernel.

// Two questions in flight hide the delay of the connection; in between the newest wishes replace older ones. Orders
// (press a button, save, cancel, reset) are questions of their own: none is lost, and each keeps its place in the queue.
class Kernel {
  constructor(model, player) {
    Object.assign(this, { model, player, seq: 0, shown: 0, queue: [], flying: new Map() });
    this.view = Math.random().toString(36).slice(2);
  }
  ask(message) { // {values}, {final} | {action} | {save} | {cancel} | {reset}
    const order = ["action", "save", "cancel", "reset"].some((kind) => kind in message);
    if (message.reset) this.queue = this.queue.filter((q) => q.order);
    const last = this.queue.at(-1), merged = !order && last && !last.order, before = merged ? this.queue.pop() : {};
    this.queue.push({ ...before, ...message, order, values: { ...before.values, ...message.values } });
    this.pump();
  }
  pump() {
    if (this.queue.length && this.flying.size < 2) this.send();
    Object.assign(this.player.root.dataset, { version: this.player.version, idle: this.idle }); // for tests and the curious
  }
  send() {
    const { order, ...question } = this.queue.shift();
    Object.assign(question, { seq: ++this.seq, view: this.view, version: this.player.version });
    question.values.t = this.player.told = this.player.t;
    this.flying.set(question.seq, question.values);
    this.model.send(question);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flying.size && this.player.wait(true), 2500);
  }
  hear(answer, buffers) {
    if (answer.progress) return this.player.tools.progress(answer, buffers); // answers no question
    const mine = answer.view === this.view;
    if (mine) { this.flying.delete(answer.seq); if (!this.flying.size) this.player.wait(false); }
    if (!mine || answer.seq > this.shown) {
      if (mine) this.shown = answer.seq;
      this.player.version = answer.version;
      if (answer.error) this.player.refuse(answer);
      else if (answer.scene) this.player.accept(answer.scene, buffers, mine);
    }
    this.player.settle();
    this.pump();
  }
  get idle() { return !this.flying.size && !this.queue.length; }
  asked(name) { return [...this.queue.map((q) => q.values), ...this.flying.values()].some((v) => name in v); }
}
