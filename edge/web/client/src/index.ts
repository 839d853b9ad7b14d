/**
 * Chat, location, notifications and presence over Switchboard's five WebSocket protocols.
 *
 * @module
 */
import type * as frames from './frames.js';
import { Socket, type Options, type Protocol, type TokenSource } from './socket.js';

export * from './frames.js';
export { comeBack, type ComeBack } from './goodbye.js';
export { Socket, type Delivery, type Ended, type Options, type Protocol, type Status } from './socket.js';
export type { TokenReason, TokenSource, WebSocketLike } from './socket.js';

/** A consultation's chat. */
export type ChatSocket = Socket<frames.ConsultationSent, frames.ConsultationReceived | frames.ExtensionFrame>;
/** An inbox. */
export type NotificationSocket = Socket<frames.NotificationSent, frames.NotificationReceived | frames.ExtensionFrame>;
/** Who is online. */
export type PresenceSocket = Socket<never, frames.PresenceReceived | frames.ExtensionFrame>;
/** A chat between customer and therapist. */
export type TherapyChatSocket = Socket<frames.TherapySent, frames.TherapyReceived | frames.ExtensionFrame>;
/** Where a therapist is. */
export type LocationSocket = Socket<frames.LocationSent, frames.LocationReceived | frames.ExtensionFrame>;
/** A clinic's chat. */
export type ClinicChatSocket = Socket<frames.ClinicSent, frames.ClinicReceived | frames.ExtensionFrame>;
/** A mobile conversation. */
export type MobileChatSocket = Socket<frames.MobileSent, frames.MobileReceived | frames.ExtensionFrame>;
/** A mentoring conversation. */
export type MentoringChatSocket = Socket<frames.MentoringSent, frames.MentoringReceived | frames.ExtensionFrame>;

const CONSULTATION: Protocol = {
  name: 'consultation',
  greets: true,
  stored: 'chat_message',
  typing: 'typing',
  id: (frame) => (frame.type === 'chat_message' ? frame.data.id : undefined),
};
const NOTIFICATIONS: Protocol = { name: 'notifications', greets: true };
const PRESENCE: Protocol = { name: 'presence' };
const THERAPY: Protocol = {
  name: 'therapy',
  stored: 'message',
  untyped: ['message'],
  id: (frame) => (frame.type === 'message' ? frame.message_id : undefined),
};
const LOCATION: Protocol = { name: 'location', untyped: ['location'], newest: 'location' };
const CLINIC: Protocol = {
  name: 'clinic',
  stored: 'message',
  untyped: ['message'],
  id: (frame) => frame.message?.id,
};
const MOBILE: Protocol = {
  name: 'mobile',
  greets: true,
  stored: 'chat_message',
  typing: 'typing_indicator',
  isMobile: true,
  id: (frame) => (frame.type === 'chat_message' ? frame.message.message_id : undefined),
};
const MENTORING: Protocol = {
  name: 'mentoring',
  greets: true,
  stored: 'message',
  untyped: ['message'],
  id: (frame) => (frame.type === 'new_message' ? frame.message.id : undefined),
};

const part = encodeURIComponent;

/** consultation: the chat `/ws/chat/{consultation_id}/`. */
export function createChatWebSocket(consultationId: string, token: TokenSource, options?: Options): ChatSocket {
  return new Socket(CONSULTATION, `/ws/chat/${part(consultationId)}/`, token, {}, options);
}

/** consultation: the inbox `/ws/notifications/`. */
export function createNotificationWebSocket(token: TokenSource, options?: Options): NotificationSocket {
  return new Socket(NOTIFICATIONS, '/ws/notifications/', token, {}, options);
}

/** consultation: `/ws/presence/`. One is online oneself while it is open. */
export function createPresenceWebSocket(token: TokenSource, options?: Options): PresenceSocket {
  return new Socket(PRESENCE, '/ws/presence/', token, {}, options);
}

/** therapy: the chat `/ws/chat/{customer_id}/{therapist_id}/`. */
export function createTherapyChatWebSocket(
  customerId: string | number,
  therapistId: string | number,
  token: TokenSource,
  options?: Options,
): TherapyChatSocket {
  return new Socket(THERAPY, `/ws/chat/${part(customerId)}/${part(therapistId)}/`, token, {}, options);
}

/** therapy: the therapist's position, `/ws/location/{customer_id}/{therapist_id}/`. */
export function createLocationWebSocket(
  customerId: string | number,
  therapistId: string | number,
  token: TokenSource,
  options?: Options,
): LocationSocket {
  return new Socket(LOCATION, `/ws/location/${part(customerId)}/${part(therapistId)}/`, token, {}, options);
}

/** clinic: the chat `/ws/chat/{chat_id}/`. */
export function createClinicChatWebSocket(chatId: string, token: TokenSource, options?: Options): ClinicChatSocket {
  return new Socket(CLINIC, `/ws/chat/${part(chatId)}/`, token, {}, options);
}

/** mobile: `/ws/mobile/chat/{conversation_id}/`, as a device or as a member of the staff with a token. */
export function createMobileChatWebSocket(
  conversationId: string | number,
  who: { deviceId: string } | { token: TokenSource },
  options?: Options,
): MobileChatSocket {
  const path = `/ws/mobile/chat/${part(conversationId)}/`;
  if ('token' in who) return new Socket(MOBILE, path, who.token, {}, options);
  return new Socket({ ...MOBILE, me: who.deviceId }, path, undefined, { device_id: who.deviceId }, options);
}

/**
 * mentoring: `/ws/chat/my-conversation/` for a student, `/ws/chat/conversations/{id}/` for a teacher or trainer. The
 * session cookie is the browser's to send.
 */
export function createMentoringChatWebSocket(
  conversation: 'my-conversation' | number | string,
  options?: Options,
): MentoringChatSocket {
  const path = conversation === 'my-conversation' ? conversation : `conversations/${part(conversation)}`;
  return new Socket(MENTORING, `/ws/chat/${path}/`, undefined, {}, options);
}
