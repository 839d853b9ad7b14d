// Made by `npm run build` in edge/web from playground/src and client/src.

// playground/src/calls.ts
var AGAIN_MS = 3e3;
var READY_MS = 2e3;
var Calls = class {
  page = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  sides = /* @__PURE__ */ new Map();
  last = 0;
  /** Told from now on, or not at all: what sockets cause before that is not heard. */
  ready;
  constructor() {
    this.ready = new Promise((resolve) => {
      this.listen(resolve);
      setTimeout(resolve, READY_MS);
    });
  }
  /** Hears of the sockets of another side, which are opened with this `name` until `end`. */
  follow(hear) {
    const side = `side-${++this.last}`;
    this.sides.set(side, hear);
    return { name: `${this.page}.${side}`, end: () => this.sides.delete(side) };
  }
  listen(begun) {
    if (document.hidden) {
      document.addEventListener("visibilitychange", () => this.listen(), { once: true });
      return begun?.();
    }
    const events = new EventSource(`playground.calls?page=${this.page}`);
    events.onopen = () => begun?.();
    events.onmessage = ({ data }) => {
      const call = JSON.parse(data);
      this.sides.get(call.side)?.(call);
    };
    const hide = () => {
      events.close();
      this.listen();
    };
    document.addEventListener("visibilitychange", hide, { once: true });
    events.onerror = () => {
      begun?.();
      if (events.readyState !== EventSource.CLOSED) return;
      document.removeEventListener("visibilitychange", hide);
      setTimeout(() => this.listen(), AGAIN_MS);
    };
  }
};

// playground/src/dom.ts
function element(tag, properties = {}, ...children) {
  const { data, aria, ...rest } = properties;
  const made = document.createElement(tag);
  Object.assign(made, rest);
  Object.assign(made.dataset, data);
  for (const [name, value] of Object.entries(aria ?? {})) made.setAttribute(`aria-${name}`, value);
  made.append(...children.filter((child) => !!child));
  return made;
}
function shape(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}
function atNextFrame(draw) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      draw();
    });
  };
}
function isAtEnd(box) {
  return box.scrollHeight - box.scrollTop - box.clientHeight < 40;
}

// playground/src/live/rates.ts
var all = () => true;
var bornAt = ({ told }) => told.samples.get("process_start_time_seconds")?.[0]?.value;
function levels({ told }, name, label, which = all) {
  const sums = /* @__PURE__ */ new Map();
  for (const { labels, value } of told.samples.get(name) ?? []) {
    if (!which(labels)) continue;
    const key = label ? labels[label] ?? "" : "";
    sums.set(key, (sums.get(key) ?? 0) + value);
  }
  return inOrder(sums);
}
var inOrder = (values) => new Map([...values].sort(([one], [other]) => one < other ? -1 : 1));
var seriesOf = ({ labels }) => JSON.stringify(Object.entries(labels).sort());
var Span = class _Span {
  constructor(before, now) {
    this.before = before;
    this.now = now;
  }
  before;
  now;
  static between(before, now) {
    if (!before || now.at <= before.at || bornAt(before) !== bornAt(now)) return void 0;
    const span = new _Span(before, now);
    for (const [name, { type }] of now.told.families) {
      if (type === "counter" && span.rises(`${name}_total`).some(({ rise }) => rise < 0)) return void 0;
    }
    return span;
  }
  get seconds() {
    return this.now.at - this.before.at;
  }
  /** How much each series rose. One that was not there before began at 0. */
  rises(name) {
    const before = new Map((this.before.told.samples.get(name) ?? []).map((sample2) => [seriesOf(sample2), sample2.value]));
    return (this.now.told.samples.get(name) ?? []).map((sample2) => ({
      labels: sample2.labels,
      rise: sample2.value - (before.get(seriesOf(sample2)) ?? 0)
    }));
  }
  /** Rises a second of a counter, by a label: of those that ever rose. */
  rates(name, label, which = all) {
    const totals = levels(this.now, name, label, which);
    const rates = /* @__PURE__ */ new Map();
    for (const { labels, rise } of this.rises(name)) {
      const key = label ? labels[label] ?? "" : "";
      if (which(labels) && totals.get(key) > 0) rates.set(key, (rates.get(key) ?? 0) + rise / this.seconds);
    }
    return inOrder(rates);
  }
  /**
   * Below which value a part `q` of what a histogram observed lies, by its buckets, in each of which values are taken to lie
   * evenly. Above the last bound it is that bound. Nothing when nothing was observed.
   */
  quantile(q, name, which = all) {
    const counts = /* @__PURE__ */ new Map();
    for (const { labels, rise } of this.rises(`${name}_bucket`)) {
      if (!which(labels)) continue;
      const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
      counts.set(bound, (counts.get(bound) ?? 0) + rise);
    }
    const buckets = [...counts].sort(([one], [other]) => one - other);
    const wanted = q * (counts.get(Infinity) ?? 0);
    if (wanted === 0) return void 0;
    let [from, below] = [0, 0];
    for (const [bound, count] of buckets) {
      if (count >= wanted) return bound === Infinity ? from : from + (bound - from) * (wanted - below) / (count - below);
      [from, below] = [bound, count];
    }
    return void 0;
  }
};

// playground/src/live/kinds.ts
var named = (name, values) => [...values ?? []].map(([, value]) => [name, value]);
var prefixed = (prefix, values) => [...values ?? []].map(([of, value]) => [`${prefix}${of.replaceAll("_", " ")}`, value]);
function durations(name, which) {
  return ({ recent }) => {
    const parts = [["p50", 0.5], ["p99", 0.99]].flatMap(([words, q]) => {
      const value = recent?.quantile(q, name, which);
      return value === void 0 ? [] : [[words, value]];
    });
    return parts.length > 0 ? new Map(parts) : void 0;
  };
}
var SOCKETS = "switchboard_edge_sockets";
var HANDSHAKES = "switchboard_edge_handshakes_total";
var RECEIVED = "switchboard_edge_frames_received_total";
var SENT = "switchboard_edge_frames_sent_total";
var STORED = "switchboard_chat_messages_stored_total";
var COMMIT = "switchboard_store_commit_duration_seconds";
var LINK = "switchboard_edge_link_round_trip_seconds";
var FRAMES_DROPPED = "switchboard_edge_frames_dropped_total";
var SESSIONS_DROPPED = "switchboard_edge_sessions_dropped_total";
var NO_ROOM = "switchboard_edge_room_refusals_total";
var CALLS_LIMITED = "switchboard_edge_http_rate_limited_total";
var ACTIONS_REFUSED = "switchboard_service_refusals_total";
var COMMITS_REFUSED = "switchboard_store_commit_refusals_total";
var BUS_DROPPED = "switchboard_bus_dropped_total";
var MEMORY = "process_resident_memory_bytes";
var CPU = "process_cpu_seconds_total";
var KINDS = [
  {
    title: "Open sockets",
    unit: "count",
    nothing: "",
    role: "edge",
    of: [SOCKETS],
    read: ({ now }) => levels(now, SOCKETS, "protocol")
  },
  {
    title: "Handshakes",
    unit: "rate",
    nothing: "None since the process began.",
    role: "edge",
    of: [HANDSHAKES],
    read: ({ span }) => span && new Map(prefixed("", span.rates(HANDSHAKES, "result")))
  },
  {
    title: "Frames of clients",
    unit: "rate",
    nothing: "None since the process began.",
    role: "edge",
    of: [RECEIVED, SENT],
    read: ({ span }) => span && new Map([...named("in", span.rates(RECEIVED)), ...named("out", span.rates(SENT))])
  },
  {
    title: "Messages stored",
    unit: "rate",
    nothing: "None since the process began.",
    role: "chat",
    of: [STORED],
    read: ({ span }) => span?.rates(STORED, "kind")
  },
  {
    title: "Time to store a message and tell it",
    unit: "seconds",
    nothing: "No message in the last ten seconds.",
    role: "chat",
    of: [COMMIT],
    read: durations(COMMIT, ({ writer }) => writer === "chat writer")
  },
  {
    title: "Time to chat and back over the link",
    unit: "seconds",
    nothing: "Tried every five seconds.",
    role: "edge",
    of: [LINK],
    read: durations(LINK, ({ service }) => service === "chat")
  },
  {
    title: "Dropped and refused",
    unit: "rate",
    nothing: "Nothing since the process began.",
    of: [FRAMES_DROPPED, SESSIONS_DROPPED, NO_ROOM, CALLS_LIMITED, ACTIONS_REFUSED, COMMITS_REFUSED, BUS_DROPPED],
    read: ({ span }) => span && new Map([
      ...prefixed("frame: ", span.rates(FRAMES_DROPPED, "reason")),
      ...prefixed("slow reader: ", span.rates(SESSIONS_DROPPED, "service")),
      ...prefixed("no room: ", span.rates(NO_ROOM, "limit")),
      ...named("call: rate limited", span.rates(CALLS_LIMITED)),
      // An edge that times its link asks for something invalid every five seconds.
      ...prefixed("action: ", span.rates(ACTIONS_REFUSED, "reason", ({ reason }) => reason !== "invalid_argument")),
      ...prefixed("not stored: ", span.rates(COMMITS_REFUSED, "writer")),
      ...prefixed("bus: ", span.rates(BUS_DROPPED, "reason"))
    ])
  },
  {
    title: "Memory",
    unit: "bytes",
    nothing: "",
    of: [MEMORY],
    read: ({ now }) => new Map(named("resident", levels(now, MEMORY)))
  },
  {
    title: "CPU",
    unit: "cores",
    nothing: "",
    of: [CPU],
    read: ({ span }) => span && new Map(named("of one core", span.rates(CPU)))
  }
];

// playground/src/live/units.ts
var three = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });
function shown(value, unit) {
  if (value === void 0) return "–";
  switch (unit) {
    case "count":
      return three.format(value);
    case "rate":
      return `${three.format(value)}/s`;
    case "seconds":
      if (value < 1e-3) return `${three.format(value * 1e6)} µs`;
      return value < 1 ? `${three.format(value * 1e3)} ms` : `${three.format(value)} s`;
    case "bytes":
      return value < 2 ** 30 ? `${three.format(value / 2 ** 20)} MiB` : `${three.format(value / 2 ** 30)} GiB`;
    case "cores":
      return `${three.format(value * 100)} %`;
  }
}
var LEAST = { count: 4, rate: 1, seconds: 1e-3, bytes: 2 ** 20, cores: 0.1 };
function top(most, unit) {
  const base = unit === "bytes" ? 2 ** (most < 2 ** 30 ? 20 : 30) : 1;
  const wanted = Math.max(most, LEAST[unit]) / base;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 2, 4, 6, 8, 10].find((step2) => step2 * power >= wanted * (1 - 1e-9)) ?? 10;
  return step * power * base;
}

// playground/src/live/plot.ts
var SHOWN_S = 120;
var LINES_MAX = 6;
var OTHERS = "others";
var [WIDTH, HEIGHT] = [320, 124];
var INSIDE = { left: 46, right: WIDTH - 4, top: 8, bottom: HEIGHT - 16 };
var SLIDE_MS = 400;
var stillness = matchMedia("(prefers-reduced-motion: reduce)");
var Plot = class {
  constructor(title, unit, note) {
    this.title = title;
    this.unit = unit;
    this.drawing = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}, the last two minutes` });
    const text = (words, attributes) => {
      const made = shape("text", { y: HEIGHT - 3, ...attributes });
      made.textContent = words;
      return made;
    };
    const frame = shape("clipPath", { id: `frame-of-${title.replace(/\W+/g, "-")}` });
    frame.append(shape("rect", { x: INSIDE.left, y: 0, width: INSIDE.right - INSIDE.left, height: INSIDE.bottom + 1 }));
    const inside = shape("g", { "clip-path": `url(#${frame.id})` });
    this.paths.append(this.marks);
    inside.append(this.paths);
    this.drawing.append(
      frame,
      shape("path", { class: "grid", d: [1, 0.5, 0].map((part2) => `M${INSIDE.left} ${y(part2)}H${INSIDE.right}`).join("") }),
      ...this.scale,
      text("2 min ago", { x: INSIDE.left }),
      text("now", { x: INSIDE.right, class: "end" }),
      inside
    );
    const head = element("tr", {}, element("th", { scope: "col" }, element("span", { className: "unseen" }, "of")), ...["now", "highest"].map((words) => element("th", { scope: "col" }, words)));
    const table = element("table", {}, element("caption", { className: "unseen" }, title), element("thead", {}, head), this.rows);
    this.nothing.textContent = note;
    this.root = element("section", { className: "plot", aria: { label: title } }, element("h3", {}, title), this.drawing, table, this.nothing);
  }
  title;
  unit;
  root;
  lines = /* @__PURE__ */ new Map();
  drawing;
  paths = shape("g", {});
  marks = shape("path", { class: "mark" });
  scale = [1, 0.5, 0].map((part2) => shape("text", { x: INSIDE.left - 5, y: y(part2) + 3.5, class: "end" }));
  rows = element("tbody");
  nothing = element("p", { className: "nothing" });
  /** When the process began anew. */
  restarts = [];
  /** The last moment of which something could be said. */
  last;
  /** What is now; nothing where it cannot be said, which is a gap. */
  add(at2, values) {
    const now = /* @__PURE__ */ new Map();
    for (const [name, value] of values ?? []) {
      const line = this.lines.has(name) || this.lines.size < LINES_MAX ? name : OTHERS;
      now.set(line, (now.get(line) ?? 0) + value);
      if (!this.lines.has(line)) this.lines.set(line, this.line(line));
    }
    this.last = values && at2;
    for (const [name, { points }] of this.lines) {
      points.push({ at: at2, value: now.get(name) });
      while (points[0].at < at2 - SHOWN_S * 1.1) points.shift();
    }
    this.restarts = this.restarts.filter((restart) => restart > at2 - SHOWN_S);
  }
  /** The process began anew. */
  mark(at2) {
    this.restarts.push(at2);
  }
  /** Draws; what was drawn `seconds` ago slides to its place. */
  draw(now, seconds) {
    const values = [...this.lines.values()].flatMap(({ points }) => points.map(({ value }) => value ?? 0));
    const most = top(Math.max(0, ...values), this.unit);
    this.scale.forEach((text, index) => text.textContent = index === 2 ? "0" : shown(most * (1 - index / 2), this.unit));
    this.marks.setAttribute("d", this.restarts.map((at2) => `M${x(at2, now)} ${INSIDE.top}V${INSIDE.bottom}`).join(""));
    for (const { points, path, now: last, peak } of this.lines.values()) {
      let [d, pen] = ["", "M"];
      for (const { at: at2, value } of points) {
        if (value === void 0) pen = "M";
        else {
          d += `${pen}${x(at2, now)} ${y(value / most)}${pen === "M" ? "h.1" : ""}`;
          pen = "L";
        }
      }
      path.setAttribute("d", d);
      const known = points.flatMap(({ value }) => value === void 0 ? [] : [value]);
      last.textContent = shown(points.at(-1).value, this.unit);
      peak.textContent = shown(known.length > 0 ? Math.max(...known) : void 0, this.unit);
    }
    this.nothing.hidden = this.lines.size > 0;
    this.rows.parentElement.hidden = this.lines.size === 0;
    const slide = seconds / SHOWN_S * (INSIDE.right - INSIDE.left);
    if (stillness.matches || seconds <= 0 || seconds > SHOWN_S / 10) return;
    this.paths.animate([{ transform: `translateX(${slide}px)` }, { transform: "none" }], { duration: SLIDE_MS, easing: "ease-out" });
  }
  line(name) {
    const look = `line line-${name === OTHERS ? "others" : this.lines.size}`;
    const path = shape("path", { class: look });
    this.paths.append(path);
    const swatch = shape("svg", { class: "swatch", viewBox: "0 0 20 6", "aria-hidden": "true" });
    swatch.append(shape("path", { class: look, d: "M0 3H20" }));
    const [now, peak] = [element("td"), element("td")];
    this.rows.append(element("tr", { data: { of: name } }, element("th", { scope: "row" }, swatch, name), now, peak));
    const points = this.unit === "rate" && this.last !== void 0 ? [{ at: this.last, value: 0 }] : [];
    return { points, path, now, peak };
  }
};
var x = (at2, now) => (INSIDE.right - (now - at2) / SHOWN_S * (INSIDE.right - INSIDE.left)).toFixed(1);
var y = (part2) => Math.round((INSIDE.bottom - part2 * (INSIDE.bottom - INSIDE.top)) * 10) / 10;

// playground/src/live/openmetrics.ts
var ESCAPED = { "\\\\": "\\", '\\"': '"', "\\n": "\n" };
var META = /^# (HELP|TYPE|UNIT) ([a-zA-Z_:][a-zA-Z0-9_:]*)(?: (.*))?$/;
var NAME = /[a-zA-Z_:][a-zA-Z0-9_:]*/y;
var LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/y;
var REST = / (\S+)(?: -?[\d.]+(?:[eE][-+]?\d+)?)?(?: # \{.*\} \S+(?: \S+)?)?$/y;
var NUMBER = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;
function parse(text) {
  const body = /^(?:([^]*)\n)?# EOF\n?$/.exec(text);
  if (!body) throw new Error("the metrics have no end");
  const read = { families: /* @__PURE__ */ new Map(), samples: /* @__PURE__ */ new Map() };
  for (const line of body[1]?.split("\n") ?? []) {
    if (!(line.startsWith("#") ? describe(read, line) : sample(read, line))) throw new Error(`not of the format: ${line}`);
  }
  return read;
}
function describe({ families }, line) {
  const [, what, name, rest = ""] = META.exec(line) ?? [];
  if (!what || !name) return false;
  const family = families.get(name) ?? { type: "unknown", help: "", unit: "" };
  if (what === "HELP") family.help = unescaped(rest);
  else if (what === "TYPE") family.type = rest;
  else family.unit = rest;
  families.set(name, family);
  return true;
}
function sample({ samples }, line) {
  const at2 = (pattern, index2) => {
    pattern.lastIndex = index2;
    return pattern.exec(line);
  };
  const name = at2(NAME, 0)?.[0];
  if (!name) return false;
  const labels = {};
  let index = name.length;
  if (line[index] === "{") {
    do {
      index += 1;
      if (line[index] === "}") break;
      const label = at2(LABEL, index);
      if (!label) return false;
      labels[label[1]] = unescaped(label[2]);
      index = LABEL.lastIndex;
    } while (line[index] === ",");
    if (line[index] !== "}") return false;
    index += 1;
  }
  const value = number(at2(REST, index)?.[1]);
  if (value === void 0) return false;
  const known = samples.get(name);
  if (known) known.push({ labels, value });
  else samples.set(name, [{ labels, value }]);
  return true;
}
var unescaped = (text) => text.replace(/\\[\\"n]/g, (escaped) => ESCAPED[escaped]);
function number(text = "") {
  if (NUMBER.test(text)) return Number(text);
  const infinite = /^([-+]?)inf(?:inity)?$/i.exec(text);
  if (infinite) return infinite[1] === "-" ? -Infinity : Infinity;
  return /^nan$/i.test(text) ? NaN : void 0;
}

// playground/src/live/poller.ts
var INTERVAL_MS = 2e3;
var TIMEOUT_MS = 5e3;
var PAUSE_MAX_MS = 8e3;
var Poller = class {
  constructor(token, listener) {
    this.token = token;
    this.listener = listener;
  }
  token;
  listener;
  asking;
  timer;
  failures = 0;
  /** Asks at once, and then goes on. */
  start() {
    if (!this.asking) void this.ask(this.asking = new AbortController());
  }
  stop() {
    clearTimeout(this.timer);
    this.asking?.abort();
    this.asking = void 0;
  }
  async ask(run) {
    let scrape;
    let why = "Lost the server";
    try {
      const answer = await fetch("playground.metrics", {
        headers: { authorization: `Bearer ${this.token}` },
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        signal: AbortSignal.any([run.signal, AbortSignal.timeout(TIMEOUT_MS)])
      });
      const text = await answer.text();
      if ([401, 403, 404].includes(answer.status)) {
        if (this.asking !== run) return;
        this.stop();
        return this.listener.refused(answer.status === 401 ? "The server does not know this token." : `The server answers ${answer.status}: ${text.trim()}`);
      }
      if (answer.ok) scrape = { at: Date.now() / 1e3, told: parse(text) };
      else why = `The server answers ${answer.status}`;
    } catch {
    }
    if (this.asking !== run) return;
    this.failures = scrape ? 0 : this.failures + 1;
    this.timer = setTimeout(() => void this.ask(run), Math.min(INTERVAL_MS * 2 ** Math.max(0, this.failures - 1), PAUSE_MAX_MS));
    if (scrape) this.listener.told(scrape);
    else this.listener.lost(why);
  }
};

// playground/src/live/view.ts
var RECENT_S = 11;
var PAUSE_MAX_S = 15;
var clock = (seconds) => new Date(seconds * 1e3).toLocaleTimeString();
function lasted(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min` : `${Math.floor(seconds)} s`;
}
var Live = class {
  constructor(root) {
    this.root = root;
    root.append(element("h2", {}, "Live"), this.form, this.bar, this.facts, this.grid);
    this.form.onsubmit = (event) => {
      event.preventDefault();
      const given = this.token.value.trim();
      this.token.value = "";
      this.use(given);
      if (this.poller) this.pause.focus();
    };
    this.pause.onclick = () => {
      this.isPaused = !this.isPaused;
      this.turn();
    };
    this.forget.onclick = () => {
      this.end("");
      this.token.focus();
    };
    document.addEventListener("visibilitychange", () => this.turn());
    this.end("");
  }
  root;
  poller;
  isShown = false;
  isPaused = false;
  scrapes = [];
  plots = /* @__PURE__ */ new Map();
  notice = "";
  status = element("p", { className: "status", role: "status" });
  facts = element("p", { className: "facts" });
  pause = element("button", { type: "button" });
  forget = element("button", { type: "button" }, "Forget the token");
  bar = element("div", { className: "live-bar" }, this.status, this.pause, this.forget);
  grid = element("div", { className: "plots" });
  token = element("input", { type: "password", required: true, autocomplete: "off", spellcheck: false, id: "live-token", aria: { describedby: "live-hint" } });
  error = element("p", { className: "error", role: "alert" });
  form = element(
    "form",
    { className: "live-form" },
    element("label", { htmlFor: "live-token" }, "An operator's token"),
    element("div", { className: "write" }, this.token, element("button", {}, "Look")),
    this.error,
    element(
      "p",
      { className: "hint", id: "live-hint" },
      element("code", {}, "grpc.token"),
      " of this deployment (without a setting it is in the file ",
      element("code", {}, "grpc-token"),
      " of the data directory), or better that of a caller in ",
      element("code", {}, "grpc.callers_file"),
      " with the scope ",
      element("code", {}, "read"),
      ", which can do nothing else. It stays in the memory of this page, and is gone when the page is closed or loaded anew."
    ),
    !isSecureContext && element("p", { className: "error" }, "This page came by plain HTTP, so whoever is on the way could read the token: use HTTPS, or a tunnel to the machine.")
  );
  /** It is looked at now, or not any more. */
  show(isShown) {
    this.isShown = isShown;
    this.root.hidden = !isShown;
    this.turn();
  }
  /** Looks with a token. */
  use(token) {
    this.end("");
    if (!/^[\x21-\x7e]+$/.test(token)) return this.end("A token is printable ASCII without blanks.");
    const poller = new Poller(token, {
      told: (scrape) => this.told(scrape),
      lost: (why) => {
        const last = this.scrapes.at(-1);
        this.say("lost", `${why}, trying again …${last ? ` The last numbers are of ${clock(last.at)}.` : ""}`);
      },
      refused: (why) => {
        this.end(why);
        this.token.focus();
      }
    });
    this.poller = poller;
    this.form.hidden = true;
    this.bar.hidden = false;
    this.isPaused = false;
    this.turn();
  }
  /** Asks, or rests. */
  turn() {
    this.pause.textContent = this.isPaused ? "Go on" : "Pause";
    if (!this.poller) return;
    if (this.isShown && !this.isPaused && document.visibilityState === "visible") {
      if (this.status.dataset.status !== "connected") this.say("asking", "Asking the server …");
      this.poller.start();
    } else {
      this.poller.stop();
      if (this.isPaused) this.say("paused", "Paused.");
    }
  }
  /** Forgets everything. */
  end(why) {
    this.poller?.stop();
    this.poller = void 0;
    this.scrapes = [];
    this.plots = /* @__PURE__ */ new Map();
    this.notice = "";
    this.grid.replaceChildren();
    this.facts.textContent = "";
    this.error.textContent = why;
    this.form.hidden = false;
    this.bar.hidden = true;
    this.say("", "");
  }
  /** Says how it is; only what is new is read out. */
  say(status, words) {
    this.status.dataset.status = status;
    if (this.status.textContent !== words) this.status.textContent = words;
  }
  told(now) {
    const before = this.scrapes.at(-1);
    const span = before && now.at - before.at < PAUSE_MAX_S ? Span.between(before, now) : void 0;
    const [born, wasBorn] = [bornAt(now), before && bornAt(before)];
    if (before && born !== wasBorn) {
      this.notice = born < wasBorn ? " Several processes answer at this address, in turn: look at each by an address of its own." : ` The process began anew at ${clock(born)}.`;
    }
    this.say("connected", `Live, every two seconds.${this.notice}`);
    this.scrapes = (span ? this.scrapes : []).concat(now).filter(({ at: at2 }) => at2 > now.at - RECENT_S);
    const look = { now, span, recent: Span.between(this.scrapes[0], now) };
    const roles = levels(now, "switchboard_role", "role");
    for (const kind of KINDS.filter(({ role }) => !role || roles.has(role))) {
      const plot = this.plotOf(kind);
      if (before && !span && born !== wasBorn) plot.mark(now.at);
      plot.add(now.at, kind.read(look));
      plot.draw(now.at, now.at - (before?.at ?? now.at));
    }
    const version = now.told.samples.get("switchboard_build_info")?.[0]?.labels.version ?? "";
    this.facts.textContent = `Switchboard ${version}, ${[...roles.keys()].join(", ")}; up ${lasted(now.at - (born ?? now.at))}.`;
  }
  plotOf(kind) {
    let plot = this.plots.get(kind);
    if (!plot) {
      plot = new Plot(kind.title, kind.unit, kind.nothing);
      this.plots.set(kind, plot);
      this.grid.append(plot.root);
    }
    return plot;
  }
};

// playground/src/people.ts
var PROTOCOLS = ["consultation", "therapy", "clinic", "mobile", "mentoring"];
async function fetchWorld() {
  for (; ; ) {
    const answer = await fetch("playground.json");
    if (answer.ok) return await answer.json();
    if (answer.status !== 503) throw new Error(`playground.json: ${answer.status}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

// client/src/goodbye.ts
var NEVER = /* @__PURE__ */ new Set([1002, 1007, 1008, 1009, 4e3, 4003, 4004]);
function comeBack(code, isMobile = false) {
  if (NEVER.has(code)) return "no";
  if (code === 4001) return isMobile ? "no" : "credential";
  if (code === 4002) return isMobile ? "credential" : "yes";
  return code === 1013 ? "later" : "yes";
}

// client/src/socket.ts
var FRAME_BYTES_MAX = 65536;
var WINDOW = 16;
var SEEN_MAX = 1e3;
var STABLE_MS = 5e3;
var AWAY_MS = 3e4;
var LATER_MS = 5e3;
var TYPING_EVERY_MS = 3e3;
var TYPING_IDLE_MS = 5e3;
var TIMER_MAX_MS = 2 ** 31 - 1;
function claims(token) {
  try {
    const bytes = atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"));
    return JSON.parse(decodeURIComponent(bytes.replace(/[^]/g, (byte) => `%${byte.charCodeAt(0).toString(16).padStart(2, "0")}`)));
  } catch {
    return {};
  }
}
var Socket = class {
  /** Use the `create...` functions. */
  constructor(protocol, path, source, parameters = {}, options = {}) {
    this.protocol = protocol;
    this.path = path;
    this.source = source;
    this.parameters = parameters;
    this.options = options;
    if (typeof source === "string") this.token = source;
    if (protocol.id) this.after = String(options.after ?? "@");
    if (options.connect ?? true) this.connect();
  }
  protocol;
  path;
  source;
  parameters;
  options;
  /** How it is now. */
  status = "stopped";
  /** How the last connection ended; nothing while connected. */
  ended;
  /** When the next attempt is due, as `Date.now()` counts; while `waiting`. */
  retryAt;
  listeners = /* @__PURE__ */ new Map();
  unanswered = [];
  kept = [];
  newest;
  socket;
  /** Counts attempts, so that what belongs to an earlier one is not taken for the present one's. */
  dials = 0;
  attempts = 0;
  after;
  seen = /* @__PURE__ */ new Set();
  window = WINDOW;
  token;
  refused;
  isRestored = false;
  awaySince = 0;
  isTyping = false;
  isTypingSaid = false;
  timers = {};
  stopWaking;
  /** Who is at this socket: what the options, the device or the token say. */
  get me() {
    const { user_id, sub } = claims(this.token);
    const me = this.options.me ?? this.protocol.me ?? user_id ?? sub;
    return me === void 0 ? void 0 : String(me);
  }
  /** The token in use. */
  get bearer() {
    return this.token;
  }
  /** Whether frames go out now. */
  get isConnected() {
    return this.status === "connected";
  }
  /** Messages that are not stored yet, oldest first. */
  get pending() {
    return this.unanswered;
  }
  /**
   * Listens to frames by their `type`. The listener gets what the frame wraps in `data`, or else the frame; and the frame.
   * Frames without a type are called `message` or `error`.
   *
   * @returns a function that stops listening
   */
  on(name, listener) {
    return this.listen(name, listener);
  }
  /** Listens to any frame: its name, what a listener of that name gets, and the frame. */
  onAny(listener) {
    return this.listen("@any", listener);
  }
  /** Called whenever it is connected, first or again. */
  onConnect(listener) {
    return this.listen("@connect", listener);
  }
  /** Called whenever a connection ended, with why and what follows. */
  onDisconnect(listener) {
    return this.listen("@disconnect", listener);
  }
  /** Called whenever {@link Socket.status} changes. */
  onStatus(listener) {
    return this.listen("@status", listener);
  }
  /** Called whenever a message of ours gets further. */
  onDelivery(listener) {
    return this.listen("@delivery", listener);
  }
  /** Called with the text of every frame, for looking on. Tokens are left out. */
  onTraffic(listener) {
    return this.listen("@traffic", listener);
  }
  /**
   * Sends a frame. A message is kept until it is stored, through reconnects, and stored once. Receipts are kept until
   * there is a connection; of positions the newest; typing is only sent when there is one.
   *
   * @returns the message's `client_message_id`; see {@link Socket.onDelivery}. Empty for other frames.
   */
  send(name, fields) {
    const { protocol } = this;
    const frame = protocol.untyped?.includes(name) ? { ...fields } : { type: name, ...fields };
    if (name === protocol.stored) return this.store(frame);
    if (name === protocol.newest) {
      if (!this.isConnected) this.newest = frame;
      else this.transmit(frame);
    } else if (this.isConnected) {
      this.transmit(frame);
    } else if (name !== protocol.typing) {
      this.kept.push(frame);
    }
    return "";
  }
  /**
   * To be called at every keystroke. The others are told at most every three seconds, and that it is over after five
   * without a call, at `typing(false)`, or when a message is sent.
   */
  typing(isTyping = true) {
    const { typing } = this.protocol;
    if (!typing) return;
    this.clear("typing");
    if (isTyping) this.set("typing", TYPING_IDLE_MS, () => this.typing(false));
    if (isTyping ? this.isTypingSaid : !this.isTyping) return;
    this.isTyping = this.isTypingSaid = isTyping;
    this.clear("typingSaid");
    if (isTyping) this.set("typingSaid", TYPING_EVERY_MS, () => this.isTypingSaid = false);
    if (this.isConnected) this.transmit({ type: typing, is_typing: isTyping });
  }
  /** Connects, if it is stopped or waiting. */
  connect() {
    if (this.status !== "stopped" && this.status !== "waiting") return;
    if (this.status === "stopped") this.refused = void 0;
    this.attempts = 0;
    this.stopWaking ??= this.wakeUp();
    this.dial();
  }
  /** Closes for good; {@link Socket.connect} begins again. What is not stored stays in {@link Socket.pending}. */
  close() {
    this.leave(1e3, "closed", true);
    this.stop();
  }
  // ---- connecting
  dial() {
    const reason = this.refused === void 0 ? "connect" : "refused";
    const dial = ++this.dials;
    const isPresent = () => dial === this.dials;
    this.retryAt = void 0;
    this.become("connecting");
    if (!isPresent()) return;
    this.set("dial", this.options.connectTimeoutMs ?? 1e4, () => this.fail("connecting took too long"));
    const { source } = this;
    if (typeof source !== "function") return this.open(isPresent);
    new Promise((resolve) => resolve(source(reason))).then(
      (token) => {
        if (!isPresent()) return;
        if (token === this.refused) return this.end({ code: this.ended?.code ?? 4001, reason: "the token was refused", comeBack: "no" });
        this.token = token;
        this.open(isPresent);
      },
      (error) => isPresent() && this.fail(`no token: ${String(error)}`)
    );
  }
  open(isPresent) {
    const { protocol, options, token } = this;
    this.restore();
    const parameters = { ...this.parameters };
    if (token && options.credential !== "subprotocol") parameters.token = token;
    if (this.after) parameters.after = this.after;
    const query = new URLSearchParams(parameters).toString();
    let socket;
    try {
      const base = options.url ?? location.origin;
      const url = `${base.replace(/^http/, "ws").replace(/\/$/, "")}${this.path}${query && `?${query}`}`;
      const Dialled = options.WebSocket ?? WebSocket;
      socket = token && options.credential === "subprotocol" ? new Dialled(url, ["bearer", token]) : new Dialled(url);
    } catch (error) {
      return this.end({ code: 1006, reason: String(error), comeBack: "no" });
    }
    this.socket = socket;
    socket.onopen = () => isPresent() && !protocol.greets && this.ready();
    socket.onmessage = ({ data }) => isPresent() && this.hear(data);
    socket.onclose = ({ code, reason }) => isPresent() && this.closed(code, reason);
    socket.onerror = () => {
    };
  }
  ready() {
    if (this.isConnected) return;
    this.clear("dial");
    this.ended = this.refused = void 0;
    this.set("stable", STABLE_MS, () => this.attempts = 0);
    this.watchExpiry();
    this.become("connected");
    const kept = this.kept;
    this.kept = [];
    for (const frame of kept) this.transmit(frame);
    if (this.newest) this.transmit(this.newest);
    this.newest = void 0;
    this.flush();
    this.emit("@connect");
  }
  /** Lets go of the socket: nothing of it is heard any more, however long it takes to close. */
  leave(code, reason, isPatient = false) {
    this.dials += 1;
    const { socket } = this;
    this.socket = void 0;
    for (const timer of Object.keys(this.timers)) this.clear(timer);
    this.isTyping = this.isTypingSaid = false;
    this.window = WINDOW;
    for (const delivery of this.unanswered) if (delivery.status === "sent") this.deliver(delivery, "queued");
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    const close = () => socket.close(code, reason);
    if (isPatient && socket.readyState === 0) socket.onopen = close;
    else close();
  }
  /** Nothing can be had of this connection. */
  fail(reason) {
    this.closed(1006, reason);
  }
  closed(code, reason) {
    this.leave(1e3, "");
    const ended = { code, reason, comeBack: comeBack(code, this.protocol.isMobile) };
    const { dials } = this;
    if (ended.comeBack === "credential") {
      if (typeof this.source !== "function") return this.end({ ...ended, comeBack: "no" });
      this.refused = this.token;
    }
    if (ended.comeBack === "no" || this.attempts >= (this.options.attemptsMax ?? Infinity)) return this.end(ended);
    this.ended = ended;
    this.emit("@disconnect", ended);
    if (dials === this.dials) this.retry(ended);
  }
  retry({ comeBack: comeBack2 }) {
    const { retryInitialMs = 1e3, retryMaxMs = 3e4 } = this.options;
    let pause = Math.min(retryMaxMs, retryInitialMs * 2 ** this.attempts);
    pause *= 0.5 + Math.random() / 2;
    if (comeBack2 === "later") pause += LATER_MS;
    if (comeBack2 === "credential" && this.attempts === 0) pause = 0;
    this.attempts += 1;
    this.retryAt = Date.now() + pause;
    const { dials } = this;
    this.become("waiting");
    if (dials === this.dials) this.set("dial", pause, () => this.dial());
  }
  /** Ends for good, because coming back would not help. */
  end(ended) {
    if (this.socket) this.leave(1e3, "");
    this.stop();
    this.ended = ended;
    this.emit("@disconnect", ended);
  }
  stop() {
    this.clear("dial");
    this.retryAt = void 0;
    this.stopWaking?.();
    this.stopWaking = void 0;
    this.become("stopped");
  }
  // ---- hearing
  hear(data) {
    this.clear("answer");
    this.emit("@traffic", "received", String(data));
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return;
    }
    if (typeof frame !== "object" || frame === null) return;
    const name = frame.type ?? ("error" in frame ? "error" : "message");
    if (name === "connection_established") this.ready();
    if (name === "place") this.after = frame.after;
    if (name === "error" && frame.retry_after !== void 0) this.hold(frame.retry_after);
    const delivery = frame.client_message_id && this.unanswered.find(({ id: id2 }) => id2 === frame.client_message_id);
    if (delivery && name !== "error") this.deliver(delivery, "stored", { answer: frame });
    else if (delivery && frame.retry_after === void 0) {
      this.deliver(delivery, "refused", { error: typeof frame.error === "string" ? frame.error : frame.message });
    }
    this.flush();
    const id = this.protocol.id?.(frame);
    if (id !== void 0) {
      const key = String(id);
      if (this.seen.has(key)) return;
      this.seen.add(key);
      if (this.seen.size > SEEN_MAX) this.seen.delete(this.seen.values().next().value);
      this.after = key;
    }
    const told = frame.data ?? frame;
    this.emit(name, told, frame);
    this.emit("@any", name, told, frame);
  }
  // ---- sending
  store(frame) {
    const id = frame.client_message_id ??= newId();
    const delivery = { id, status: "queued", frame };
    const text = frame.message ?? frame.content ?? "";
    if (!/\P{White_Space}/u.test(text) && !frame.media_url) return this.refuse(delivery, "the message is empty");
    if (new TextEncoder().encode(encode(frame)).length > FRAME_BYTES_MAX) {
      return this.refuse(delivery, "the message is over 64 KiB");
    }
    if (this.isTyping) this.typing(false);
    this.unanswered.push(delivery);
    this.deliver(delivery, "queued");
    this.flush();
    return id;
  }
  refuse(delivery, error) {
    this.emit("@delivery", Object.assign(delivery, { status: "refused", error }));
    return delivery.id;
  }
  /** Sends what waits, in order, and not more at a time than the server takes. */
  flush() {
    if (this.isConnected && !this.timers.hold) {
      let inFlight = this.unanswered.filter(({ status }) => status === "sent").length;
      for (const delivery of [...this.unanswered]) {
        if (inFlight >= this.window) break;
        if (delivery.status !== "queued") continue;
        inFlight += 1;
        this.transmit(delivery.frame);
        this.deliver(delivery, "sent");
      }
    }
    if (this.unanswered.some(({ status }) => status === "sent")) this.expectAnswer();
  }
  deliver(delivery, status, more) {
    Object.assign(delivery, { status }, more);
    const index = this.unanswered.indexOf(delivery);
    if ((status === "stored" || status === "refused") && index >= 0) this.unanswered.splice(index, 1);
    if (this.unanswered.length === 0) this.window = WINDOW;
    if (status !== "sent") this.remember();
    this.emit("@delivery", delivery);
  }
  /** The server takes no more for some seconds: one at a time from then on, so that the order stays. */
  hold(seconds) {
    this.window = 1;
    for (const delivery of this.unanswered) if (delivery.status === "sent") this.deliver(delivery, "queued");
    this.set("hold", seconds * 1e3, () => {
      this.clear("hold");
      this.flush();
    });
  }
  transmit(frame) {
    const text = encode(frame);
    this.socket?.send(text);
    this.emit("@traffic", "sent", frame.type === "refresh" ? encode({ ...frame, token: "..." }) : text);
  }
  expectAnswer() {
    this.timers.answer ??= setTimeout(() => this.fail("no answer"), this.options.answerTimeoutMs ?? 1e4);
  }
  // ---- staying
  /** Looks after the connection when the machine or the page was away. */
  wakeUp() {
    const { document: page, window: frame } = globalThis;
    if (!frame?.addEventListener || !page) return () => {
    };
    const online = () => this.wake(true);
    const visible = () => {
      if (page.visibilityState === "hidden") this.awaySince = Date.now();
      else this.wake(this.awaySince > 0 && Math.abs(Date.now() - this.awaySince) > AWAY_MS);
    };
    const shown3 = (event) => this.wake(event.persisted);
    frame.addEventListener("online", online);
    frame.addEventListener("pageshow", shown3);
    page.addEventListener("visibilitychange", visible);
    return () => {
      frame.removeEventListener("online", online);
      frame.removeEventListener("pageshow", shown3);
      page.removeEventListener("visibilitychange", visible);
    };
  }
  wake(isDoubtful) {
    this.awaySince = 0;
    if (isDoubtful && this.isConnected) {
      if (this.token) {
        this.transmit({ type: "refresh", token: this.token });
        this.expectAnswer();
      } else this.fail("the page was away");
    }
    if (this.status === "waiting") this.connect();
  }
  /** Asks for a new token before the one in use ends, so that the socket lives on. */
  watchExpiry() {
    const { source } = this;
    const left = claims(this.token).exp * 1e3 - Date.now();
    if (typeof source !== "function" || !(left > 0)) return;
    const pause = Math.max(left - 6e4, left / 2, 1e3);
    if (pause > TIMER_MAX_MS) return void this.set("expiry", TIMER_MAX_MS, () => this.watchExpiry());
    const { dials } = this;
    const isPresent = () => dials === this.dials && this.isConnected;
    this.set("expiry", pause, () => {
      new Promise((resolve) => resolve(source("expiring"))).then(
        (token) => {
          if (!isPresent()) return;
          if (token !== this.token) this.transmit({ type: "refresh", token: this.token = token });
          this.watchExpiry();
        },
        () => isPresent() && this.watchExpiry()
      );
    });
  }
  // ---- small things
  get key() {
    return this.me === void 0 ? void 0 : `switchboard:${this.me}:${this.path}`;
  }
  restore() {
    const { storage } = this.options;
    if (!storage || this.isRestored) return;
    if (!this.key) throw new Error("storage needs to know who you are: set `me`");
    this.isRestored = true;
    let frames = [];
    try {
      frames = JSON.parse(storage.getItem(this.key) ?? "[]");
    } catch {
    }
    const restored = frames.map((frame) => ({ id: frame.client_message_id, status: "queued", frame }));
    this.unanswered.unshift(...restored);
    for (const delivery of restored) this.deliver(delivery, "queued");
  }
  remember() {
    const { storage } = this.options;
    if (!storage || !this.isRestored) return;
    try {
      if (this.unanswered.length > 0) storage.setItem(this.key, JSON.stringify(this.unanswered.map(({ frame }) => frame)));
      else storage.removeItem(this.key);
    } catch {
    }
  }
  listen(name, listener) {
    const listeners = this.listeners.get(name) ?? /* @__PURE__ */ new Set();
    this.listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }
  emit(name, ...given) {
    for (const listener of [...this.listeners.get(name) ?? []]) {
      try {
        listener(...given);
      } catch (error) {
        setTimeout(() => {
          throw error;
        });
      }
    }
  }
  become(status) {
    if (this.status === status) return;
    this.status = status;
    this.emit("@status", status);
  }
  set(name, ms, done) {
    this.clear(name);
    this.timers[name] = setTimeout(done, ms);
  }
  clear(name) {
    clearTimeout(this.timers[name]);
    this.timers[name] = void 0;
  }
};
function encode(frame) {
  return JSON.stringify(frame, (_, value) => typeof value === "string" ? value.replace(/\p{Surrogate}/gu, "�") : value);
}
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// client/src/index.ts
var CONSULTATION = {
  name: "consultation",
  greets: true,
  stored: "chat_message",
  typing: "typing",
  id: (frame) => frame.type === "chat_message" ? frame.data.id : void 0
};
var NOTIFICATIONS = { name: "notifications", greets: true };
var PRESENCE = { name: "presence" };
var THERAPY = {
  name: "therapy",
  stored: "message",
  untyped: ["message"],
  id: (frame) => frame.type === "message" ? frame.message_id : void 0
};
var LOCATION = { name: "location", untyped: ["location"], newest: "location" };
var CLINIC = {
  name: "clinic",
  stored: "message",
  untyped: ["message"],
  id: (frame) => frame.message?.id
};
var MOBILE = {
  name: "mobile",
  greets: true,
  stored: "chat_message",
  typing: "typing_indicator",
  isMobile: true,
  id: (frame) => frame.type === "chat_message" ? frame.message.message_id : void 0
};
var MENTORING = {
  name: "mentoring",
  greets: true,
  stored: "message",
  untyped: ["message"],
  id: (frame) => frame.type === "new_message" ? frame.message.id : void 0
};
var part = encodeURIComponent;
function createChatWebSocket(consultationId, token, options) {
  return new Socket(CONSULTATION, `/ws/chat/${part(consultationId)}/`, token, {}, options);
}
function createNotificationWebSocket(token, options) {
  return new Socket(NOTIFICATIONS, "/ws/notifications/", token, {}, options);
}
function createPresenceWebSocket(token, options) {
  return new Socket(PRESENCE, "/ws/presence/", token, {}, options);
}
function createTherapyChatWebSocket(customerId, therapistId, token, options) {
  return new Socket(THERAPY, `/ws/chat/${part(customerId)}/${part(therapistId)}/`, token, {}, options);
}
function createLocationWebSocket(customerId, therapistId, token, options) {
  return new Socket(LOCATION, `/ws/location/${part(customerId)}/${part(therapistId)}/`, token, {}, options);
}
function createClinicChatWebSocket(chatId, token, options) {
  return new Socket(CLINIC, `/ws/chat/${part(chatId)}/`, token, {}, options);
}
function createMobileChatWebSocket(conversationId, who2, options) {
  const path = `/ws/mobile/chat/${part(conversationId)}/`;
  if ("token" in who2) return new Socket(MOBILE, path, who2.token, {}, options);
  return new Socket({ ...MOBILE, me: who2.deviceId }, path, void 0, { device_id: who2.deviceId }, options);
}
function createMentoringChatWebSocket(conversation, options) {
  const path = conversation === "my-conversation" ? conversation : `conversations/${part(conversation)}`;
  return new Socket(MENTORING, `/ws/chat/${path}/`, void 0, {}, options);
}

// client/src/state.ts
var Store = class {
  constructor(state) {
    this.state = state;
  }
  state;
  listeners = /* @__PURE__ */ new Set();
  /** Calls `listener` after every change, until the returned function is called. */
  subscribe = (listener) => {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  };
  /** What it is now: another object after every change, the same one until then. */
  getSnapshot = () => this.state;
  update(changes) {
    this.state = { ...this.state, ...changes };
    for (const listener of [...this.listeners]) listener();
  }
};
var TYPING_MS = 6e3;
var who = (told) => String(told.device_id ?? told.user_id);
function clinicRole(socket) {
  const { role, roles } = claims(socket.bearer);
  const own = [socket.options.me, role, roles].flat().find((name) => /^(patient|professional|provider)$/i.test(String(name)));
  return own && (/^patient$/i.test(own) ? "patient" : "professional");
}
var DIALECTS = {
  consultation: {
    told: "chat_message",
    read: (told, { me }) => ({
      id: told.id,
      content: told.content,
      isOwn: told.sender_id === me,
      sender: told.sender_name,
      at: told.created_at
    }),
    markRead: (ids) => ["read_receipt", { message_id: ids.at(-1) }]
  },
  therapy: {
    told: "message",
    read: (told, { me }) => ({
      id: told.message_id,
      content: told.message,
      isOwn: told.sender_id === me,
      sender: told.sender_id,
      at: told.timestamp
    })
  },
  clinic: {
    told: "message",
    read: ({ message }, socket) => ({
      id: message.id,
      content: message.content,
      isOwn: message.sender_type === clinicRole(socket),
      sender: message.sender_type,
      at: message.created_at
    })
  },
  mobile: {
    told: "chat_message",
    read: ({ message }, { me }) => {
      const { device_id, id, username } = message.sender_info;
      return {
        id: String(message.message_id),
        content: message.content || message.media_url,
        isOwn: String(device_id ?? id) === me,
        sender: device_id ?? username ?? String(id),
        at: message.sent_at,
        status: message.status === "sent" ? "stored" : message.status
      };
    },
    markRead: (ids) => ["read_receipt", { message_ids: ids.map(Number) }]
  },
  mentoring: {
    told: "new_message",
    read: ({ message }) => ({
      id: String(message.id),
      content: message.content,
      isOwn: message.is_own_message,
      sender: message.sender_profile.full_name || message.sender_profile.username,
      at: message.timestamp,
      status: message.is_read ? "read" : "stored"
    }),
    markRead: (ids) => ["mark_read", { message_id: Number(ids.at(-1)) }]
  }
};
var ORDER = ["refused", "queued", "sent", "stored", "delivered", "read"];
var Conversation = class extends Store {
  /** @param messagesMax older ones are forgotten; default 1,000 */
  constructor(socket, messagesMax = 1e3) {
    super({ messages: [], typing: [], present: [], unread: 0, error: void 0 });
    this.socket = socket;
    this.messagesMax = messagesMax;
    this.dialect = DIALECTS[socket.protocol.name];
    for (const delivery of socket.pending) this.delivered(delivery);
    socket.onDelivery((delivery) => this.delivered(delivery));
    socket.onAny((name, told, frame) => this.heard(name, told, frame));
    socket.onDisconnect(() => {
      for (const typist of this.typists.keys()) this.types(typist, false);
      this.update({ present: [] });
    });
  }
  socket;
  messagesMax;
  dialect;
  typists = /* @__PURE__ */ new Map();
  unreadIds = [];
  /** Sends a text. More fields of the frame may be given, such as clinic's `role` or mobile's `media_url`. */
  sendMessage = (text, fields = {}) => {
    const { name, stored } = this.socket.protocol;
    const words = name === "clinic" || name === "mobile" ? { content: text } : { message: text };
    return this.socket.send(stored, { ...words, ...fields });
  };
  /** To be called at every keystroke; `false` when the field is left. */
  sendTyping = (isTyping = true) => this.socket.typing(isTyping);
  /** Marks everything read, and tells the others where the protocol can. To be called when it is looked at. */
  markRead = () => {
    if (this.unreadIds.length === 0) return;
    const frame = this.dialect.markRead?.(this.unreadIds);
    if (frame) this.socket.send(...frame);
    this.unreadIds = [];
    this.update({ unread: 0 });
  };
  heard(name, told, frame) {
    const me = this.socket.me;
    if (this.socket.protocol.name === "mobile" && (name === "typing_indicator" || name === "read_receipt")) this.is(who(told), true);
    if (name === this.dialect.told) this.told(this.dialect.read(told, this.socket), frame);
    else if (name === "typing_indicator") {
      const typist = who(told);
      if (typist !== me) this.types(told.user_name ?? typist, told.is_typing);
    } else if (name === "read_receipt" && told.message_ids) {
      for (const id of told.message_ids) this.reached(String(id), "read", false);
    } else if (name === "read_receipt") {
      if (told.user_id === me) this.readElsewhere(told.message_id);
      else this.reached(told.message_id, "read", true);
    } else if (name === "message_status_update") this.reached(String(told.message_id), told.status, false);
    else if (name === "update_message_status") this.reached(String(told.message_id), "read", true);
    else if (name === "mobile_user_joined" || name === "user_joined") this.is(who(told), true);
    else if (name === "mobile_user_left" || name === "user_left") this.is(who(told), false);
    else if (name === "error" && !told.client_message_id) this.update({ error: told.error ?? told.message });
  }
  told(told, frame) {
    const { messages } = this.getSnapshot();
    const ours = frame.client_message_id;
    const message = { status: "stored", ...told, isOwn: told.isOwn || !!ours, key: ours ?? told.id };
    if (!message.isOwn) {
      this.types(told.sender, false);
      this.unreadIds.push(told.id);
      if (this.socket.protocol.name === "mobile" && message.status === "stored") {
        this.socket.send("message_status", { message_id: Number(told.id), status: "delivered" });
      }
    }
    const others2 = messages.filter(({ key }) => key !== message.key);
    let place2 = others2.length;
    while (place2 > 0 && ORDER.indexOf(others2[place2 - 1].status) < ORDER.indexOf("stored")) place2 -= 1;
    others2.splice(place2, 0, message);
    this.update({ messages: others2.slice(-this.messagesMax), unread: this.unreadIds.length });
  }
  delivered({ id, status, frame, error }) {
    if (status === "stored") return;
    const { messages } = this.getSnapshot();
    const content = String(frame.message ?? frame.content ?? "");
    const message = { key: id, id, content, isOwn: true, sender: this.socket.me ?? "", at: "", status };
    if (error) message.error = error;
    const isKnown = messages.some(({ key }) => key === id);
    this.update({
      messages: isKnown ? messages.map((other) => other.key === id ? message : other) : [...messages, message]
    });
  }
  /** A message of ours got further; with `andBefore`, so did those before it. */
  reached(id, status, andBefore) {
    const { messages } = this.getSnapshot();
    const index = messages.findIndex((message) => message.id === id);
    this.update({
      messages: messages.map((message, place2) => {
        const isMeant = andBefore ? place2 <= index : place2 === index;
        const isFurther = ORDER.indexOf(status) > ORDER.indexOf(message.status) && message.at !== "";
        return isMeant && isFurther && message.isOwn ? { ...message, status } : message;
      })
    });
  }
  /** Another tab of ours read up to a message. */
  readElsewhere(id) {
    this.unreadIds = this.unreadIds.slice(this.unreadIds.indexOf(id) + 1);
    this.update({ unread: this.unreadIds.length });
  }
  types(typist, isTyping) {
    if (!isTyping && !this.typists.has(typist)) return;
    clearTimeout(this.typists.get(typist));
    if (isTyping) this.typists.set(typist, setTimeout(() => this.types(typist, false), TYPING_MS));
    else this.typists.delete(typist);
    this.update({ typing: [...this.typists.keys()] });
  }
  is(person, isHere) {
    const present = this.getSnapshot().present.filter((other) => other !== person);
    this.update({ present: isHere ? [...present, person] : present });
  }
};
var Inbox = class extends Store {
  /** @param notificationsMax older ones are forgotten; default 200 */
  constructor(socket, notificationsMax = 200) {
    super({ notifications: [], unreadCount: 0 });
    this.socket = socket;
    socket.on("notification", (notification) => {
      const notifications = [notification, ...this.getSnapshot().notifications].slice(0, notificationsMax);
      this.update({ notifications });
    });
    socket.on("unread_count", ({ count }) => this.update({ unreadCount: count }));
  }
  socket;
  /** Marks one read; without a connection as soon as there is one. */
  markRead = (id) => {
    this.socket.send("mark_read", { notification_id: id });
    const { notifications } = this.getSnapshot();
    this.update({ notifications: notifications.map((each) => each.id === id ? { ...each, is_read: true } : each) });
  };
};
var Roster = class extends Store {
  constructor(socket) {
    super({ online: /* @__PURE__ */ new Map() });
    this.socket = socket;
    const change = (id, name) => {
      const online = new Map(this.getSnapshot().online);
      if (name === void 0) online.delete(id);
      else online.set(id, name);
      this.update({ online });
    };
    socket.on("user_online", ({ user_id, user_name }) => change(user_id, user_name));
    socket.on("user_offline", ({ user_id }) => change(user_id));
    socket.onConnect(() => this.update({ online: /* @__PURE__ */ new Map() }));
  }
  socket;
};
var Position = class extends Store {
  constructor(socket) {
    super({ position: void 0 });
    this.socket = socket;
    socket.on("location", ({ latitude, longitude, therapist_id }) => {
      this.update({ position: { latitude, longitude, therapistId: therapist_id } });
    });
  }
  socket;
  /** Reports one's own position, in degrees; therapists only. */
  report = (latitude, longitude) => {
    this.socket.send("location", { latitude, longitude });
  };
};

// playground/src/chat.ts
var SHOWN_MAX = 200;
var TICKS = {
  queued: ["◷", "waits for a connection"],
  sent: ["○", "on its way"],
  stored: ["✓", "stored"],
  delivered: ["✓✓", "delivered"],
  read: ["✓✓", "read"],
  refused: ["!", "refused"]
};
function chatView(conversation, who2, canType) {
  const list = element("ol", { className: "messages", role: "log", tabIndex: 0, aria: { label: `Messages of ${who2}`, live: "polite" } });
  const typing = element("p", { className: "typing", aria: { live: "polite" } });
  const input = element("input", {
    autocomplete: "off",
    placeholder: "Write a message",
    enterKeyHint: "send",
    aria: { label: `Write as ${who2}` }
  });
  const form = element("form", { className: "write" }, input, element("button", {}, "Send"));
  form.onsubmit = (event) => {
    event.preventDefault();
    if (!input.value.trim()) return;
    conversation.sendMessage(input.value);
    input.value = "";
  };
  if (canType) {
    input.oninput = () => conversation.sendTyping(input.value !== "");
    input.onblur = () => conversation.sendTyping(false);
  }
  const items = /* @__PURE__ */ new Map();
  const draw = atNextFrame(() => {
    const state = conversation.getSnapshot();
    const stays = isAtEnd(list);
    const shown3 = state.messages.slice(-SHOWN_MAX);
    const keys = new Set(shown3.map(({ key }) => key));
    for (const [key, { item }] of items) {
      if (keys.has(key)) continue;
      item.remove();
      items.delete(key);
    }
    shown3.forEach((message, index) => {
      let known = items.get(message.key);
      if (known?.message !== message) {
        const item = known?.item ?? element("li");
        item.className = message.isOwn ? "own" : "";
        item.replaceChildren(...bubble(message));
        items.set(message.key, known = { message, item });
      }
      if (list.children[index] !== known.item) list.insertBefore(known.item, list.children[index] ?? null);
    });
    if (stays) list.scrollTop = list.scrollHeight;
    typing.textContent = state.typing.length > 0 ? `${state.typing.join(", ")} types …` : "";
  });
  conversation.subscribe(draw);
  draw();
  return [list, typing, form];
}
function bubble(message) {
  const [sign, words] = TICKS[message.status];
  const tick = element("span", { className: "tick", title: words, data: { status: message.status } }, element("span", { aria: { hidden: "true" } }, sign), element("span", { className: "unseen" }, words));
  const from = message.isOwn ? "me" : message.sender;
  const parts = [element("span", { className: "unseen" }, `${from}: `), element("span", { className: "text" }, message.content)];
  if (message.isOwn) parts.push(" ", tick);
  if (message.error) parts.push(element("span", { className: "error" }, message.error));
  return parts;
}

// playground/src/map.ts
var MIDDLE = { latitude: 52.5145, longitude: 13.3501 };
var REACH = { latitude: 55e-4, longitude: 9e-3 };
var [WIDTH2, HEIGHT2] = [320, 200];
var TRAIL_MAX = 90;
var STEP = 5e-4;
function at(latitude, longitude) {
  const x2 = (0.5 + (longitude - MIDDLE.longitude) / (2 * REACH.longitude)) * WIDTH2;
  const y2 = (0.5 - (latitude - MIDDLE.latitude) / (2 * REACH.latitude)) * HEIGHT2;
  return [Math.min(WIDTH2 - 8, Math.max(8, x2)), Math.min(HEIGHT2 - 8, Math.max(8, y2))];
}
function mapView(position, isTherapist) {
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH2} ${HEIGHT2}`, class: "map", role: "img" });
  const ring = (latitude, longitude, kind) => {
    const [rx, ry] = [longitude / REACH.longitude / 2 * WIDTH2, latitude / REACH.latitude / 2 * HEIGHT2];
    return shape("ellipse", { class: kind, cx: WIDTH2 / 2, cy: HEIGHT2 / 2, rx, ry });
  };
  svg.append(
    shape("rect", { class: "town", width: WIDTH2, height: HEIGHT2 }),
    ...[34, 92, 236, 290].map((x2) => shape("path", { class: "street", d: `M${x2} 0 L${x2 - 12} ${HEIGHT2}` })),
    ...[22, 178].map((y2) => shape("path", { class: "street", d: `M0 ${y2} L${WIDTH2} ${y2 - 8}` })),
    ring(5e-3, 62e-4, "park"),
    shape("path", { class: "lake", d: "M128 96 q20 -26 48 -12 q34 2 22 26 q-16 20 -44 12 q-34 2 -26 -26z" }),
    ring(4e-3, 4e-3, "way")
  );
  const trail = shape("polyline", { class: "trail" });
  const dot = shape("circle", { class: "therapist", r: 7 });
  svg.append(trail, dot);
  const words = element("p", { className: "where" }, "Where the therapist is, is not known yet.");
  svg.setAttribute("aria-label", words.textContent);
  const points = [];
  const draw = atNextFrame(() => {
    const { position: here } = position.getSnapshot();
    if (!here) return;
    trail.setAttribute("points", points.join(" "));
    const [x2, y2] = at(here.latitude, here.longitude);
    dot.setAttribute("cx", String(x2));
    dot.setAttribute("cy", String(y2));
    requestAnimationFrame(() => dot.classList.add("moves"));
    words.textContent = `Therapist ${here.therapistId}: ${here.latitude.toFixed(5)}, ${here.longitude.toFixed(5)}`;
    svg.setAttribute("aria-label", words.textContent);
  });
  position.subscribe(() => {
    const { position: here } = position.getSnapshot();
    if (!here) return;
    points.push(at(here.latitude, here.longitude).join(","));
    if (points.length > TRAIL_MAX) points.shift();
    draw();
  });
  const parts = [svg, words];
  if (isTherapist) {
    const step = (label, sign, north, east) => {
      const button = element("button", { type: "button", aria: { label } }, sign);
      button.onclick = () => {
        const here = position.getSnapshot().position ?? MIDDLE;
        position.report(here.latitude + north * STEP, here.longitude + east * STEP);
      };
      return button;
    };
    const steps = [
      step("Move west", "←", 0, -1),
      step("Move north", "↑", 1, 0),
      step("Move south", "↓", -1, 0),
      step("Move east", "→", 0, 1)
    ];
    parts.push(element("div", { className: "steps", role: "group", aria: { label: "Move" } }, ...steps));
  }
  return element("section", { className: "extra", aria: { label: "Map" } }, element("h3", {}, "Location"), ...parts);
}

// playground/src/network.ts
var Network = class {
  sockets = /* @__PURE__ */ new Set();
  isUp = true;
  WebSocket;
  /** `calls`: the name under which somebody hears of the sockets' gRPC calls. */
  constructor(calls2) {
    const network = this;
    this.WebSocket = class extends WebSocket {
      constructor(url, protocols) {
        if (!network.isUp) return nowhere();
        const to = new URL(url, location.href);
        if (calls2) to.searchParams.set("calls", calls2);
        super(to, protocols);
        const cut = { cut: () => this.cut() };
        network.sockets.add(cut);
        this.addEventListener("close", () => network.sockets.delete(cut));
      }
      /** As if nothing arrived any more: what is heard is that it is closed, without a word from the server. */
      cut() {
        const heard = this.onclose;
        this.onopen = this.onmessage = this.onclose = null;
        this.close();
        heard?.call(this, new CloseEvent("close", { code: 1006 }));
      }
    };
  }
  set(isUp) {
    this.isUp = isUp;
    if (!isUp) for (const socket of [...this.sockets]) socket.cut();
  }
};
function nowhere() {
  const socket = {
    readyState: WebSocket.CLOSED,
    onopen: null,
    onmessage: null,
    onclose: null,
    onerror: null,
    send() {
    },
    close() {
    }
  };
  setTimeout(() => socket.onclose?.(new CloseEvent("close", { code: 1006 })), 100);
  return socket;
}

// playground/src/people-here.ts
var SHOWN_MAX2 = 20;
function inboxView(inbox, who2) {
  const badge = element("span", { className: "badge", aria: { live: "polite" } });
  const list = element("ul", { className: "news", tabIndex: 0, aria: { label: `Notifications of ${who2}` } });
  const draw = atNextFrame(() => {
    const { notifications, unreadCount } = inbox.getSnapshot();
    badge.replaceChildren(String(unreadCount), element("span", { className: "unseen" }, " unread"));
    badge.dataset.count = String(unreadCount);
    const items = notifications.slice(0, SHOWN_MAX2).map(({ id, title, message, is_read }) => {
      const button = element("button", { type: "button" }, "Mark read");
      button.onclick = () => {
        inbox.markRead(id);
        list.focus();
      };
      return element("li", { className: is_read ? "" : "unread" }, element("span", {}, `${title}. ${message}`), !is_read && button);
    });
    list.replaceChildren(...items);
    if (items.length === 0) list.append(element("li", {}, "None since this page is open."));
  });
  inbox.subscribe(draw);
  draw();
  return element("section", { className: "extra", aria: { label: "Notifications" } }, element("h3", {}, "Notifications ", badge), list);
}
function rosterView(roster, who2) {
  const list = element("ul", { className: "here", aria: { label: `Online, as ${who2} sees it`, live: "polite" } });
  const draw = atNextFrame(() => {
    const { online } = roster.getSnapshot();
    const names = [...online].map(([id, name]) => element("li", { data: { user: id } }, name));
    list.replaceChildren(...names);
    if (names.length === 0) list.append(element("li", { className: "nobody" }, "Nobody else."));
  });
  roster.subscribe(draw);
  draw();
  return element("section", { className: "extra", aria: { label: "Presence" } }, element("h3", {}, "Online"), list);
}

// playground/src/wire.ts
var LINES_MAX2 = 200;
var Log = class {
  root;
  log;
  waiting = [];
  constructor(className, title, label) {
    this.log = element("div", { className, tabIndex: 0, role: "region", aria: { label } });
    this.root = element("details", { className: "wire", open: true }, element("summary", {}, title), this.log);
  }
  add(kind, head, text) {
    this.waiting.push(element("div", { data: { kind } }, element("b", {}, `${head} `), text));
    if (this.waiting.length > LINES_MAX2) this.waiting.shift();
    this.draw();
  }
  draw = atNextFrame(() => {
    const { log } = this;
    const stays = isAtEnd(log);
    log.append(...this.waiting);
    this.waiting = [];
    while (log.children.length > LINES_MAX2) log.firstChild.remove();
    if (stays) log.scrollTop = log.scrollHeight;
  });
};
var Wire = class {
  roots;
  frames;
  calls;
  constructor(who2, hasCalls) {
    this.frames = new Log("frames", "Frames and close codes", `Frames of ${who2}`);
    this.calls = new Log("calls", "gRPC calls between the edge and the services", `gRPC calls for ${who2}`);
    this.roots = hasCalls ? [this.frames.root, this.calls.root] : [this.frames.root];
  }
  /** Follows a socket. */
  follow(name, socket) {
    const add = (kind, text) => {
      const sign = { sent: "↑", received: "↓", closed: "×", state: "·" }[kind];
      this.frames.add(kind, `${sign} ${name}`, text);
    };
    socket.onStatus((status) => add("state", status === "waiting" ? `waiting, next attempt in ${((socket.retryAt - Date.now()) / 1e3).toFixed(1)} s` : status));
    socket.onTraffic((direction, text) => add(direction, text));
    socket.onDisconnect(({ code, reason, comeBack: comeBack2 }) => {
      const next = { yes: "comes back", later: "comes back later", credential: "needs another credential", no: "does not come back" }[comeBack2];
      add("closed", `${code} ${reason || "(no reason)"}: ${next}`);
    });
  }
  /** Shows a call. */
  called({ method, way, message, status, ms, missed }) {
    if (missed) this.calls.add("state", "·", `${missed} calls are not shown: too many at once`);
    const name = method.slice(method.lastIndexOf(".") + 1);
    const outcome = status === void 0 ? "" : `${status}, ${ms} ms `;
    const text = outcome + (message === void 0 ? "" : JSON.stringify(message));
    const isFailed = status !== void 0 && status !== "Ok";
    this.calls.add(isFailed ? "closed" : way === "asked" ? "sent" : "received", `${way === "asked" ? "→" : "←"} ${name}`, text);
  }
};

// playground/src/side.ts
var STATUS = {
  connecting: "connecting …",
  connected: "connected",
  waiting: "not connected, tries again",
  stopped: "closed"
};
function chatSocket(person, [id = "", second = ""], options) {
  const token = person.token ?? "";
  switch (person.protocol) {
    case "consultation":
      return createChatWebSocket(id, token, options);
    case "therapy":
      return createTherapyChatWebSocket(id, second, token, options);
    case "clinic":
      return createClinicChatWebSocket(id, token, { ...options, me: person.role });
    case "mobile":
      return createMobileChatWebSocket(id, person.device_id ? { deviceId: person.device_id } : { token }, options);
    case "mentoring":
      return createMentoringChatWebSocket(cookie(person, id), options);
  }
}
function cookie(person, id) {
  const conversation = person.role === "student" ? "my-conversation" : id;
  const path = person.role === "student" ? conversation : `conversations/${id}`;
  if (person.session) {
    document.cookie = `sessionid=${person.session}; path=/ws/chat/${path}/; SameSite=Strict`;
    void document.cookie;
  }
  return conversation;
}
function openSide(person, partner, { world: world2, calls: calls2 }, choice2, ownWindow) {
  const wire = new Wire(person.name, calls2 !== void 0);
  const called = calls2?.follow((call) => wire.called(call));
  const network = new Network(called?.name);
  const options = { WebSocket: network.WebSocket, after: "@0" };
  const conversation = new Conversation(chatSocket(person, world2.conversations[person.protocol] ?? [], options));
  const sockets = [];
  const follow = (name, socket) => {
    wire.follow(name, socket);
    sockets.push(socket);
    return socket;
  };
  follow("chat", conversation.socket);
  const status = element("span", { className: "status", role: "status" });
  const showStatus = () => {
    const { ended } = conversation.socket;
    const now = conversation.socket.status;
    status.textContent = now === "stopped" && ended ? `closed: ${ended.code} ${ended.reason}` : STATUS[now];
    status.dataset.status = now;
  };
  conversation.socket.onStatus(showStatus);
  conversation.socket.onDisconnect(showStatus);
  showStatus();
  const partnerDot = element("span", { className: "partner" });
  const showPartner = (isHere) => {
    partnerDot.dataset.here = String(isHere);
    partnerDot.textContent = partner ? `${partner.name} is ${isHere ? "here" : "away"}` : "";
  };
  const extras = [];
  if (person.protocol === "consultation" && person.token) {
    const roster = new Roster(follow("presence", createPresenceWebSocket(person.token, options)));
    const inbox = new Inbox(follow("notifications", createNotificationWebSocket(person.token, options)));
    roster.subscribe(() => showPartner(roster.getSnapshot().online.has(partner?.id ?? "")));
    showPartner(false);
    extras.push(inboxView(inbox, person.name), rosterView(roster, person.name));
  }
  if (person.protocol === "therapy" && person.token) {
    const [customer = "", therapist = ""] = world2.conversations.therapy ?? [];
    const position = new Position(follow("location", createLocationWebSocket(customer, therapist, person.token, options)));
    extras.push(mapView(position, person.role === "therapist"));
  }
  if (person.protocol === "mobile") {
    let isKnown = false;
    conversation.subscribe(() => {
      const isHere = conversation.getSnapshot().present.includes(partner?.id ?? "");
      isKnown ||= isHere;
      if (isKnown) showPartner(isHere);
    });
  }
  const canType = person.protocol === "consultation" || person.protocol === "mobile";
  const chat = chatView(conversation, person.name, canType);
  const cable = element("input", { type: "checkbox", checked: true, role: "switch" });
  cable.onchange = () => {
    network.set(cable.checked);
    if (cable.checked) for (const socket of sockets) socket.connect();
  };
  const unread = element("span", { className: "badge", title: "unread messages" });
  const root = element(
    "section",
    { className: "side", id: `side-${person.id}`, aria: { label: person.name } },
    element("header", {}, choice2, status),
    element("div", { className: "line" }, partnerDot, element("span", {}, "Unread ", unread), element("label", {}, cable, " Network"), ownWindow),
    ...chat,
    ...extras,
    ...wire.roots
  );
  let isLookedAt = false;
  const look = (now) => () => {
    isLookedAt = now;
    showUnread();
  };
  const showUnread = () => {
    if (isLookedAt && document.visibilityState === "visible") conversation.markRead();
    unread.textContent = unread.dataset.count = String(conversation.getSnapshot().unread);
  };
  root.addEventListener("focusin", look(true));
  root.addEventListener("focusout", look(false));
  root.addEventListener("pointerenter", look(true));
  root.addEventListener("pointerleave", () => look(root.contains(document.activeElement))());
  conversation.subscribe(showUnread);
  showUnread();
  const close = () => {
    for (const socket of sockets) socket.close();
    called?.end();
  };
  return { root, close };
}

// playground/src/somebody.ts
var IDS = {
  consultation: "consultation id",
  therapy: "customer id, therapist id",
  clinic: "chat id",
  mobile: "conversation number",
  mentoring: "conversation number"
};
function field(label, input) {
  return element("label", {}, label, input);
}
function somebodyElse(world2, added) {
  const protocol = element("select", {}, ...PROTOCOLS.map((name) => element("option", { value: name }, name)));
  const ids = element("input", { required: true, autocomplete: "off" });
  const role = element("input", { autocomplete: "off", placeholder: "client, therapist, patient, student …" });
  const credential = element("input", { required: true, autocomplete: "off", type: "password" });
  const hint2 = () => {
    ids.placeholder = IDS[protocol.value];
    credential.placeholder = { mobile: "token or device id", mentoring: "sessionid" }[protocol.value] ?? "token";
  };
  protocol.onchange = hint2;
  hint2();
  const form = element(
    "form",
    {},
    field("Protocol", protocol),
    field("Conversation", ids),
    field("Role", role),
    field("Credential", credential),
    element("button", {}, "Add")
  );
  form.onsubmit = (event) => {
    event.preventDefault();
    const name = protocol.value;
    const given = credential.value.trim();
    const isToken = given.split(".").length === 3;
    const kind = isToken ? { token: given } : name === "mentoring" ? { session: given } : { device_id: given };
    const id = `somebody-${world2.people.length + 1}`;
    world2.people.push({ protocol: name, id, name: `Somebody ${world2.people.length + 1}`, role: role.value.trim() || "guest", ...kind });
    world2.conversations[name] = ids.value.split(",").map((part2) => part2.trim());
    credential.value = "";
    added(name);
  };
  return element("details", { className: "somebody", open: world2.people.length === 0 }, element("summary", {}, "Somebody else, by a credential of yours"), form);
}

// playground/src/main.ts
var tabs = document.getElementById("protocols");
var stage = document.getElementById("sides");
var others = document.getElementById("others");
var hint = document.getElementById("hint");
var operators = document.querySelector("#operators a");
var live = new Live(document.getElementById("live"));
var chosen = /* @__PURE__ */ new Map();
var open = [];
var shown2;
function place() {
  const [protocol, alone] = decodeURIComponent(location.hash.slice(1)).split("/");
  return { protocol: PROTOCOLS.find((name) => name === protocol) ?? "consultation", alone };
}
function choice(world2, person, label, choose) {
  const select = element("select", { aria: { label } });
  for (const other of world2.people.filter(({ protocol }) => protocol === person.protocol)) {
    select.append(element("option", { value: other.id, selected: other.id === person.id }, `${other.name}, ${other.role}`));
  }
  select.onchange = () => choose(select.value);
  return select;
}
function turn(world2) {
  const [, name, token] = /^#([^/]*)\/?([^]*)$/.exec(location.hash) ?? [];
  const isLive = name === "live";
  for (const part2 of [hint, stage, others]) part2.hidden = isLive;
  for (const tab of [...tabs.querySelectorAll("a"), operators]) {
    if (tab.hash === `#${isLive ? "live" : place().protocol}`) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  if (isLive && token) {
    history.replaceState(null, "", "#live");
    live.use(token);
  }
  live.show(isLive);
  if (world2 && !isLive && shown2 !== location.hash) void begin(world2);
}
async function begin(world2) {
  if (world2.calls) await (calls ??= new Calls()).ready;
  if (shown2 !== location.hash && !location.hash.startsWith("#live")) show(world2);
}
function show(world2) {
  const { protocol, alone } = place();
  shown2 = location.hash;
  for (const side of open) side.close();
  open = [];
  document.body.classList.toggle("alone", alone !== void 0);
  const people = world2.people.filter((person) => person.protocol === protocol);
  const byId = (id) => people.find((person) => person.id === id);
  let [left, right] = chosen.get(protocol) ?? [];
  left = (byId(left) ?? people[0])?.id;
  right = (byId(right) ?? people[1] ?? people[0])?.id;
  const sides = [];
  if (alone !== void 0) {
    const person = byId(alone) ?? people[0];
    const choose = (id) => void (location.hash = `${protocol}/${encodeURIComponent(id)}`);
    if (person) sides.push([person, people.find((other) => other.id !== person.id), "Who am I?", choose]);
  } else if (left && right) {
    const set = (pair) => {
      chosen.set(protocol, pair);
      show(world2);
    };
    sides.push([byId(left), byId(right), "On the left", (id) => set([id, right])]);
    sides.push([byId(right), byId(left), "On the right", (id) => set([left, id])]);
  }
  open = sides.map(([person, partner, label, choose]) => {
    const href = `#${protocol}/${encodeURIComponent(person.id)}`;
    const window2 = element("a", { href, target: "_blank", rel: "noopener", className: "own-window" }, "Own window", element("span", { className: "unseen" }, ` of ${person.name}`));
    return openSide(person, partner, { world: world2, calls }, choice(world2, person, label, choose), window2);
  });
  stage.replaceChildren(...open.map(({ root }) => root));
  if (open.length === 0) stage.append(element("p", {}, "Nobody is known here yet: add two people below."));
  stage.querySelectorAll(".side").forEach((side, index, all2) => {
    if (index > 0 && side.id === all2[0].id) side.id += "-again";
  });
}
for (const protocol of PROTOCOLS) tabs.append(element("a", { href: `#${protocol}` }, protocol));
var world;
var calls;
window.addEventListener("hashchange", () => turn(world));
turn(world);
try {
  const known = await fetchWorld();
  others.append(
    somebodyElse(known, (protocol) => {
      if (place().protocol === protocol) show(known);
      else location.hash = protocol;
    })
  );
  world = known;
  turn(world);
} catch (error) {
  stage.replaceChildren(element("p", { role: "alert" }, `The server does not say who is there: ${String(error)}. Load the page again.`));
}
