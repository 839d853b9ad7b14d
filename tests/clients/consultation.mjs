// A front end's WebSocket client class in the manner of consultation.md: listeners per `type` that get
// `message.data || message`, and reconnects after 1 s · 2^n, five times at most. The pauses are shortened here; their
// ratio is looked at.
import assert from 'node:assert/strict';
import net from 'node:net';
import WebSocket from 'ws';

const [address, id, clientToken, expertToken] = process.argv.slice(2);
const FIRST_PAUSE_MS = 50;
const ATTEMPTS_MAX = 5;

class Socket {
  constructor(url) {
    this.url = url;
    this.listeners = new Map();
    this.attempts = 0;
    this.pauses = [];
    this.connections = 0;
    this.connect();
  }
  connect() {
    this.socket = new WebSocket(this.url);
    this.socket.onopen = () => { this.attempts = 0; this.connections += 1; this.emit('connect'); };
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      this.emit(message.type, message.data || message);
    };
    this.socket.onerror = () => {};
    this.socket.onclose = ({ code }) => {
      this.emit('disconnect', code);
      if (this.done || this.attempts >= ATTEMPTS_MAX) return this.emit('gave_up');
      const pause = FIRST_PAUSE_MS * 2 ** this.attempts;
      this.attempts += 1;
      this.pauses.push(pause);
      setTimeout(() => this.connect(), pause);
    };
  }
  on(type, listener) {
    this.listeners.set(type, [...(this.listeners.get(type) ?? []), listener]);
    return this;
  }
  once(type) {
    return new Promise((resolve) => {
      const listener = (data) => {
        this.listeners.set(type, this.listeners.get(type).filter((other) => other !== listener));
        resolve(data);
      };
      this.on(type, listener);
    });
  }
  emit(type, data) { for (const listener of this.listeners.get(type) ?? []) listener(data); }
  send(type, fields) { this.socket.send(JSON.stringify({ type, ...fields })); }
  close() { this.done = true; this.socket.close(); }
}

// A door between, which can be shut: what a network does to a client.
let connections = new Set();
const door = net.createServer((inner) => {
  const [host, port] = address.split(':');
  const outer = net.connect(Number(port), host);
  for (const socket of [inner, outer]) {
    connections.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => { inner.destroy(); outer.destroy(); });
  }
  inner.pipe(outer).pipe(inner);
});
await new Promise((resolve) => door.listen(0, '127.0.0.1', resolve));
const doorPort = door.address().port;

const url = (host, token) => `ws://${host}/ws/chat/${id}/?token=${token}`;
const client = new Socket(url(`127.0.0.1:${doorPort}`, clientToken));
const expert = new Socket(url(address, expertToken));
const established = await Promise.all([client.once('connection_established'), expert.once('connection_established')]);
assert.equal(established[0].consultation_id, id);

// `data` inside a message is what a listener gets; a message without it is given whole.
let heard = [client.once('chat_message'), expert.once('chat_message')];
client.send('chat_message', { message: 'Hello!' });
for (const data of await Promise.all(heard)) {
  assert.equal(data.content, 'Hello!');
  assert.equal(data.sender_name, 'Clara Client');
}
const typing = client.once('typing_indicator');
expert.send('typing', { is_typing: true });
assert.equal((await typing).is_typing, true);
const [receipt] = [client.once('read_receipt')];
const { id: messageId } = await (async () => {
  const next = expert.once('chat_message');
  client.send('chat_message', { message: 'Read me' });
  return next;
})();
expert.send('read_receipt', { message_id: messageId });
assert.equal((await receipt).message_id, messageId);

// The network breaks: the class comes back by itself and the conversation goes on.
const back = client.once('connection_established');
for (const socket of connections) socket.destroy();
await back;
assert.equal(client.connections, 2);
heard = client.once('chat_message');
expert.send('chat_message', { message: 'Still there?' });
assert.equal((await heard).content, 'Still there?');

// The network stays away: five attempts, each pause twice the one before, then it gives up.
client.pauses = [];
const gaveUp = client.once('gave_up');
door.close();
for (const socket of connections) socket.destroy();
await gaveUp;
assert.deepEqual(client.pauses, [0, 1, 2, 3, 4].map((n) => FIRST_PAUSE_MS * 2 ** n));
expert.close();
console.log('ok');
