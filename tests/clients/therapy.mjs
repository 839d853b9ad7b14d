// A customer's and a therapist's page, in the manner of therapy.md: token in the query, `{message}` out,
// `{type: 'message'}` in, close codes looked at.
import assert from 'node:assert/strict';
import WebSocket from 'ws';

const [address, customerToken, therapistToken] = process.argv.slice(2);

class TherapySocket {
  constructor(customerId, therapistId, token) {
    this.inbox = [];
    this.waiting = [];
    this.socket = new WebSocket(`ws://${address}/ws/chat/${customerId}/${therapistId}/?token=${token}`);
    this.opened = new Promise((resolve) => { this.socket.onopen = resolve; });
    this.closed = new Promise((resolve) => { this.socket.onclose = (event) => resolve(event.code); });
    this.socket.onmessage = (event) => {
      const data = JSON.parse(event.data);
      if (data.type !== 'message') return;
      const waiting = this.waiting.shift();
      if (waiting) waiting(data); else this.inbox.push(data);
    };
  }
  say(message) {
    assert.equal(this.socket.readyState, WebSocket.OPEN);
    this.socket.send(JSON.stringify({ message }));
  }
  heard() {
    return this.inbox.length ? Promise.resolve(this.inbox.shift()) : new Promise((resolve) => this.waiting.push(resolve));
  }
}

const customer = new TherapySocket(123, 456, customerToken);
const therapist = new TherapySocket(123, 456, therapistToken);
await Promise.all([customer.opened, therapist.opened]);
customer.say('');
customer.say('Hello!');
for (const data of await Promise.all([customer.heard(), therapist.heard()])) {
  assert.equal(data.message, 'Hello!');
  assert.equal(data.sender_id, '123');
  assert.match(data.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z$/);
  assert.ok(!Number.isNaN(new Date(data.timestamp).getTime()));
}
therapist.say('Good to see you');
assert.equal((await customer.heard()).sender_id, '456');
customer.socket.close();
assert.equal(await customer.closed, 1005);
assert.equal(await new TherapySocket(123, 456, 'no-token').closed, 4001);
assert.equal(await new TherapySocket(1, 456, customerToken).closed, 4003);
therapist.socket.close();
console.log('ok');
