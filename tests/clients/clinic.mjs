// A patient's and a professional's page, in the manner of clinic.md: the chat's id from the REST API, then `{content}`
// out, `{message}` or `{error}` in.
import assert from 'node:assert/strict';
import WebSocket from 'ws';

const [address, patientToken, professionalToken] = process.argv.slice(2);

const answer = await fetch(`http://${address}/chat/chats/`, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${patientToken}` },
  body: JSON.stringify({ professional: 'professional-702' }),
});
assert.equal(answer.status, 200);
const chat = await answer.json();

function connect(token) {
  const socket = new WebSocket(`ws://${address}/ws/chat/${chat.id}/?token=${token}`);
  const waiting = [];
  const inbox = [];
  socket.onmessage = (event) => {
    const data = JSON.parse(event.data);
    const next = waiting.shift();
    if (next) next(data); else inbox.push(data);
  };
  return {
    socket,
    opened: new Promise((resolve) => { socket.onopen = resolve; }),
    heard: () => (inbox.length ? Promise.resolve(inbox.shift()) : new Promise((resolve) => waiting.push(resolve))),
    say: (content) => socket.send(JSON.stringify({ content })),
  };
}

const patient = connect(patientToken);
const professional = connect(professionalToken);
await Promise.all([patient.opened, professional.opened]);
patient.say('Hello, doctor!');
for (const side of [patient, professional]) {
  const { message } = await side.heard();
  assert.equal(message.content, 'Hello, doctor!');
  assert.equal(message.sender_type, 'patient');
}
professional.say('  ');
assert.deepEqual(await professional.heard(), { error: 'Message content cannot be empty' });
patient.socket.close();
professional.socket.close();
console.log('ok');
