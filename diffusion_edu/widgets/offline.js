// What stands for the kernel in a page of its own: answers the player with scenes computed beforehand.

function offlineModel(state) {
  state.buffers = state.buffers.map((text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer));
  const first = { ...state.at }, handlers = {};
  let at = { ...first }, version = 0;
  // The value nearest to what was asked: dragged handles send numbers that nobody computed.
  const nearest = (values, wish, now) => {
    const numbers = values.filter(Number.isFinite), same = values.find((v) => String(v) === String(wish));
    return same ?? (Number.isNaN(Number(wish)) || !numbers.length ? now
      : numbers.reduce((best, v) => (Math.abs(v - wish) < Math.abs(best - wish) ? v : best)));
  };
  const key = (now) => state.names.map((name) => state.grid[name].indexOf(now[name])).join("|");
  const answer = ({ seq, view, values = {}, reset }) => {
    const wanted = reset ? { ...first } : { ...at };
    for (const name of state.names) if (!reset && name in values) wanted[name] = nearest(state.grid[name], values[name], at[name]);
    const same = !reset && key(wanted) === key(at);
    at = wanted;
    version += 1;
    handlers["msg:custom"]?.(same ? { seq, view, version } : { seq, view, version, scene: state.scenes[key(at)] }, state.buffers);
  };
  return {
    offline: true,
    get: () => ({ scene: state.scenes[key(first)], version, buffers: state.buffers }),
    on: (event, handler) => { handlers[event] = handler; },
    off: (event) => { delete handlers[event]; },
    send: (question) => queueMicrotask(() => answer(question)), // later, as from a kernel
  };
}
