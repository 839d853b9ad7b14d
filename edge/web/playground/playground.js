// Made by `npm run build` in edge/web from playground/src and client/src.

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
    const shown = (event) => this.wake(event.persisted);
    frame.addEventListener("online", online);
    frame.addEventListener("pageshow", shown);
    page.addEventListener("visibilitychange", visible);
    return () => {
      frame.removeEventListener("online", online);
      frame.removeEventListener("pageshow", shown);
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
    const shown = state.messages.slice(-SHOWN_MAX);
    const keys = new Set(shown.map(({ key }) => key));
    for (const [key, { item }] of items) {
      if (keys.has(key)) continue;
      item.remove();
      items.delete(key);
    }
    shown.forEach((message, index) => {
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
var [WIDTH, HEIGHT] = [320, 200];
var TRAIL_MAX = 90;
var STEP = 5e-4;
function at(latitude, longitude) {
  const x = (0.5 + (longitude - MIDDLE.longitude) / (2 * REACH.longitude)) * WIDTH;
  const y = (0.5 - (latitude - MIDDLE.latitude) / (2 * REACH.latitude)) * HEIGHT;
  return [Math.min(WIDTH - 8, Math.max(8, x)), Math.min(HEIGHT - 8, Math.max(8, y))];
}
function mapView(position, isTherapist) {
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "map", role: "img" });
  const ring = (latitude, longitude, kind) => {
    const [rx, ry] = [longitude / REACH.longitude / 2 * WIDTH, latitude / REACH.latitude / 2 * HEIGHT];
    return shape("ellipse", { class: kind, cx: WIDTH / 2, cy: HEIGHT / 2, rx, ry });
  };
  svg.append(
    shape("rect", { class: "town", width: WIDTH, height: HEIGHT }),
    ...[34, 92, 236, 290].map((x) => shape("path", { class: "street", d: `M${x} 0 L${x - 12} ${HEIGHT}` })),
    ...[22, 178].map((y) => shape("path", { class: "street", d: `M0 ${y} L${WIDTH} ${y - 8}` })),
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
    const [x, y] = at(here.latitude, here.longitude);
    dot.setAttribute("cx", String(x));
    dot.setAttribute("cy", String(y));
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
  constructor() {
    const network = this;
    this.WebSocket = class extends WebSocket {
      constructor(url, protocols) {
        if (!network.isUp) return nowhere();
        super(url, protocols);
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
var LINES_MAX = 200;
var Wire = class {
  log = element("div", { className: "frames", tabIndex: 0, role: "region" });
  root;
  waiting = [];
  constructor(who2) {
    this.log.setAttribute("aria-label", `Frames of ${who2}`);
    this.root = element("details", { className: "wire", open: true }, element("summary", {}, "Frames and close codes"), this.log);
  }
  /** Follows a socket. */
  follow(name, socket) {
    socket.onStatus((status) => this.add(name, "state", status === "waiting" ? `waiting, next attempt in ${((socket.retryAt - Date.now()) / 1e3).toFixed(1)} s` : status));
    socket.onTraffic((direction, text) => this.add(name, direction, text));
    socket.onDisconnect(({ code, reason, comeBack: comeBack2 }) => {
      const next = { yes: "comes back", later: "comes back later", credential: "needs another credential", no: "does not come back" }[comeBack2];
      this.add(name, "closed", `${code} ${reason || "(no reason)"}: ${next}`);
    });
  }
  draw = atNextFrame(() => {
    const { log } = this;
    const stays = isAtEnd(log);
    log.append(...this.waiting);
    this.waiting = [];
    while (log.children.length > LINES_MAX) log.firstChild.remove();
    if (stays) log.scrollTop = log.scrollHeight;
  });
  add(name, kind, text) {
    const sign = { sent: "↑", received: "↓", closed: "×", state: "·" }[kind];
    this.waiting.push(element("div", { data: { kind } }, element("b", {}, `${sign} ${name} `), text));
    if (this.waiting.length > LINES_MAX) this.waiting.shift();
    this.draw();
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
function openSide(person, partner, world, choice2, ownWindow) {
  const network = new Network();
  const options = { WebSocket: network.WebSocket, after: "@0" };
  const conversation = new Conversation(chatSocket(person, world.conversations[person.protocol] ?? [], options));
  const wire = new Wire(person.name);
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
    const [customer = "", therapist = ""] = world.conversations.therapy ?? [];
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
    wire.root
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
  return { root, close: () => sockets.forEach((socket) => socket.close()) };
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
function somebodyElse(world, added) {
  const protocol = element("select", {}, ...PROTOCOLS.map((name) => element("option", { value: name }, name)));
  const ids = element("input", { required: true, autocomplete: "off" });
  const role = element("input", { autocomplete: "off", placeholder: "client, therapist, patient, student …" });
  const credential = element("input", { required: true, autocomplete: "off", type: "password" });
  const hint = () => {
    ids.placeholder = IDS[protocol.value];
    credential.placeholder = { mobile: "token or device id", mentoring: "sessionid" }[protocol.value] ?? "token";
  };
  protocol.onchange = hint;
  hint();
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
    const id = `somebody-${world.people.length + 1}`;
    world.people.push({ protocol: name, id, name: `Somebody ${world.people.length + 1}`, role: role.value.trim() || "guest", ...kind });
    world.conversations[name] = ids.value.split(",").map((part2) => part2.trim());
    credential.value = "";
    added(name);
  };
  return element("details", { className: "somebody", open: world.people.length === 0 }, element("summary", {}, "Somebody else, by a credential of yours"), form);
}

// playground/src/main.ts
var tabs = document.getElementById("protocols");
var stage = document.getElementById("sides");
var others = document.getElementById("others");
var chosen = /* @__PURE__ */ new Map();
var open = [];
function place() {
  const [protocol, alone] = decodeURIComponent(location.hash.slice(1)).split("/");
  return { protocol: PROTOCOLS.find((name) => name === protocol) ?? "consultation", alone };
}
function choice(world, person, label, choose) {
  const select = element("select", { aria: { label } });
  for (const other of world.people.filter(({ protocol }) => protocol === person.protocol)) {
    select.append(element("option", { value: other.id, selected: other.id === person.id }, `${other.name}, ${other.role}`));
  }
  select.onchange = () => choose(select.value);
  return select;
}
function show(world) {
  const { protocol, alone } = place();
  for (const side of open) side.close();
  open = [];
  for (const tab of tabs.querySelectorAll("a")) {
    if (tab.hash === `#${protocol}`) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  document.body.classList.toggle("alone", alone !== void 0);
  const people = world.people.filter((person) => person.protocol === protocol);
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
      show(world);
    };
    sides.push([byId(left), byId(right), "On the left", (id) => set([id, right])]);
    sides.push([byId(right), byId(left), "On the right", (id) => set([left, id])]);
  }
  open = sides.map(([person, partner, label, choose]) => {
    const href = `#${protocol}/${encodeURIComponent(person.id)}`;
    const window2 = element("a", { href, target: "_blank", rel: "noopener", className: "own-window" }, "Own window", element("span", { className: "unseen" }, ` of ${person.name}`));
    return openSide(person, partner, world, choice(world, person, label, choose), window2);
  });
  stage.replaceChildren(...open.map(({ root }) => root));
  if (open.length === 0) stage.append(element("p", {}, "Nobody is known here yet: add two people below."));
  stage.querySelectorAll(".side").forEach((side, index, all) => {
    if (index > 0 && side.id === all[0].id) side.id += "-again";
  });
}
for (const protocol of PROTOCOLS) tabs.append(element("a", { href: `#${protocol}` }, protocol));
try {
  const world = await fetchWorld();
  others.append(
    somebodyElse(world, (protocol) => {
      if (place().protocol === protocol) show(world);
      else location.hash = protocol;
    })
  );
  window.addEventListener("hashchange", () => show(world));
  show(world);
} catch (error) {
  stage.replaceChildren(element("p", { role: "alert" }, `The server does not say who is there: ${String(error)}. Load the page again.`));
}
