// A React chat page in the manner of mentoring.md: it waits for `connection_established`, keeps messages in state,
// styles one's own by `is_own_message`, and is authenticated by the session cookie that the browser sends along.
import React, { useCallback, useEffect, useRef, useState } from 'react';
import { createRoot } from 'react-dom/client';

function Chat({ name, path }) {
  const [messages, setMessages] = useState([]);
  const [text, setText] = useState('');
  const [isConnected, setIsConnected] = useState(false);
  const [problem, setProblem] = useState('');
  const socket = useRef(null);

  const connect = useCallback(() => {
    const host = new URLSearchParams(window.location.search).get('host');
    const made = new WebSocket(`ws://${host}/ws/chat${path}`);
    socket.current = made;
    made.onmessage = (event) => {
      const data = JSON.parse(event.data);
      if (data.type === 'connection_established') setIsConnected(true);
      else if (data.type === 'new_message') setMessages((before) => [...before, data.message]);
      else if (data.type === 'update_message_status') {
        setMessages((before) => before.map((message) => (message.id <= data.message_id ? { ...message, is_read: true } : message)));
      } else if (data.error) setProblem(data.error);
    };
    made.onclose = (event) => { setIsConnected(false); setProblem(`closed ${event.code}`); };
  }, [path]);

  useEffect(() => {
    connect();
    return () => socket.current?.close();
  }, [connect]);

  const say = (event) => {
    event.preventDefault();
    if (socket.current?.readyState === WebSocket.OPEN) {
      socket.current.send(JSON.stringify({ message: text }));
      setText('');
    }
  };
  const read = (message) => socket.current.send(JSON.stringify({ type: 'mark_read', message_id: message.id }));

  return (
    <form id={name} onSubmit={say}>
      <output>{isConnected ? 'Connected' : 'Disconnected'}</output>
      {messages.map((message) => (
        <p key={message.id} className={message.is_own_message ? 'my-message' : 'other-message'} data-read={message.is_read} onClick={() => read(message)}>
          <strong>{message.sender_profile?.username || 'System'}: </strong>
          {message.content}
          <time>{new Date(message.timestamp).toLocaleTimeString()}</time>
        </p>
      ))}
      <em>{problem}</em>
      <input value={text} onChange={(event) => setText(event.target.value)} disabled={!isConnected} />
      <button disabled={!isConnected}>Send</button>
    </form>
  );
}

createRoot(document.getElementById('root')).render(<Chat name="chat" path={new URLSearchParams(window.location.search).get('path')} />);
