/**
 * Every frame of the five protocols, as their documents print it and as the server sends it. A test holds them against
 * the documents' examples and the transcripts that the server is played with.
 *
 * @module
 */

/** What any frame that stores a message may carry: the sender's own name for it, which makes sending it repeatable. */
export interface Repeatable {
  /** At most 64 characters. The library makes one when there is none. */
  client_message_id?: string;
}

/** What an error may carry besides its text. */
export interface ErrorDetails {
  /** The message that was refused. */
  client_message_id?: string;
  /** When to send it again, in seconds: nothing was stored, and it is not the message's fault. */
  retry_after?: number;
}

/** `{"type":"error","message":"..."}`: what most protocols answer to a bad frame. */
export interface TypedError extends ErrorDetails {
  type: 'error';
  message: string;
}

/** `{"error":"..."}`: what clinic and mentoring answer to a bad frame. */
export interface PlainError extends ErrorDetails {
  error: string;
}

/** Switchboard's own frames, on every socket. */
export type ExtensionFrame =
  | { type: 'refreshed'; expires_at: string }
  | {
      type: 'refresh_refused';
      reason: 'TOKEN_INVALID' | 'TOKEN_EXPIRED' | 'TOKEN_REVOKED' | 'USER_INACTIVE' | 'OTHER_USER' | 'UNAVAILABLE';
      message: string;
    }
  | { type: 'place'; after: string };

// ---- consultation

/** A message of a consultation. */
export interface ConsultationMessage {
  id: string;
  sender_id: string;
  sender_name: string;
  content: string;
  /** ISO 8601, UTC. */
  created_at: string;
  message_type: 'text';
}

/** What a consultation's chat takes. */
export type ConsultationSent =
  | ({ type: 'chat_message'; message: string } & Repeatable)
  | { type: 'typing'; is_typing: boolean }
  | { type: 'read_receipt'; message_id: string };

/** What a consultation's chat says. */
export type ConsultationReceived =
  | { type: 'connection_established'; message: string; consultation_id: string }
  | ({ type: 'chat_message'; data: ConsultationMessage } & Repeatable)
  | { type: 'typing_indicator'; user_id: string; user_name: string; is_typing: boolean }
  | { type: 'read_receipt'; message_id: string; user_id: string }
  | TypedError
  | PlainError;

/** A notification. */
export interface Notification {
  id: string;
  title: string;
  message: string;
  notification_type: string;
  is_read: boolean;
  /** ISO 8601, UTC. */
  created_at: string;
  /** Whatever the notifying service added. */
  data?: Record<string, unknown>;
}

/** What an inbox takes. */
export type NotificationSent = { type: 'mark_read'; notification_id: string };

/** What an inbox says. */
export type NotificationReceived =
  | { type: 'connection_established'; message: string }
  | { type: 'notification'; data: Notification }
  | { type: 'unread_count'; count: number }
  | TypedError;

/** What presence says; it takes nothing. */
export type PresenceReceived =
  | { type: 'user_online'; user_id: string; user_name: string }
  | { type: 'user_offline'; user_id: string }
  | TypedError;

// ---- therapy

/** What a therapy chat takes. */
export type TherapySent = { message: string } & Repeatable;

/** What a therapy chat says. */
export type TherapyReceived =
  | ({ type: 'message'; message: string; sender_id: string; message_id: string; timestamp: string } & Repeatable)
  | TypedError;

/** A position that a therapist reports, in degrees. */
export interface LocationSent {
  latitude: number;
  longitude: number;
}

/** What a location socket says. */
export type LocationReceived =
  | { type: 'location'; latitude: number; longitude: number; therapist_id: string }
  | TypedError;

// ---- clinic

/** A message of a clinic's chat. */
export interface ClinicMessage {
  id: string;
  content: string;
  sender_type: 'patient' | 'professional';
  /** ISO 8601, UTC. */
  created_at: string;
}

/** What a clinic's chat takes. */
export type ClinicSent = { content: string; role?: 'patient' | 'professional' | 'provider' } & Repeatable;

/** What a clinic's chat says. */
export type ClinicReceived = ({ message: ClinicMessage } & Repeatable) | PlainError;

// ---- mobile

/** What a mobile message may be. */
export type MobileMessageType = 'text' | 'image' | 'video' | 'audio' | 'file' | 'location';

/** A message of a mobile conversation. */
export interface MobileMessage {
  message_id: number;
  content: string;
  message_type: MobileMessageType;
  /** Empty when there is none. */
  media_url: string;
  is_urgent: boolean;
  sender_type: 'mobile' | 'admin';
  sender_info:
    | { type: 'mobile_user'; device_id: string }
    | { id: number | string; username: string; first_name: string; last_name: string };
  /** ISO 8601, UTC. */
  sent_at: string;
  status: MobileStatus;
}

/** How far a mobile message got. */
export type MobileStatus = 'sent' | 'delivered' | 'read';

/** Who typed, read or joined: a device or a member of the staff. The other one is null. */
export interface MobileWho {
  device_id: string | null;
  user_id: number | string | null;
}

/** What a mobile conversation takes. */
export type MobileSent =
  | ({
      type: 'chat_message';
      content?: string;
      message_type?: MobileMessageType;
      /** http or https. */
      media_url?: string;
      is_urgent?: boolean;
      metadata?: Record<string, unknown>;
    } & Repeatable)
  | { type: 'message_status'; message_id: number; status: 'delivered' | 'read' }
  | { type: 'typing_indicator'; is_typing: boolean }
  | { type: 'read_receipt'; message_ids: number[] };

/** What a mobile conversation says. */
export type MobileReceived =
  | {
      type: 'connection_established';
      conversation_id: number;
      device_id: string | null;
      user_id?: number | string;
      timestamp: string;
    }
  | ({ type: 'chat_message'; message: MobileMessage } & Repeatable)
  | { type: 'message_status_update'; message_id: number; status: MobileStatus; timestamp: string }
  | ({ type: 'typing_indicator'; is_typing: boolean; timestamp: string } & MobileWho)
  | ({ type: 'read_receipt'; message_ids: number[]; timestamp: string } & MobileWho)
  | { type: 'mobile_user_joined' | 'mobile_user_left'; device_id: string; timestamp: string }
  | { type: 'user_joined' | 'user_left'; user_id: number | string; timestamp: string }
  | TypedError;

// ---- mentoring

/** Somebody in a mentoring conversation. */
export interface MentoringProfile {
  user_id: number | string;
  full_name: string;
  username: string;
  email: string;
  role: 'STUDENT' | 'TEACHER' | 'TRAINER';
}

/** A message of a mentoring conversation. */
export interface MentoringMessage {
  id: number;
  sender: number | string;
  sender_profile: MentoringProfile;
  content: string;
  /** ISO 8601, UTC. */
  timestamp: string;
  is_read: boolean;
  is_own_message: boolean;
}

/** What a mentoring conversation takes. */
export type MentoringSent = ({ message: string } & Repeatable) | { type: 'mark_read'; message_id: number | string };

/** What a mentoring conversation says. */
export type MentoringReceived =
  | { type: 'connection_established'; conversation_id: string; room_group_name: string }
  | ({ type: 'new_message'; message: MentoringMessage } & Repeatable)
  | { type: 'update_message_status'; message_id: number; is_read: boolean }
  | PlainError;

// ---- names

/**
 * What a frame is called in `on` and `send`: its `type`. A frame without one is an `error`, a `location` or a `message`.
 */
export type Name<F> = F extends { type: infer T extends string }
  ? T
  : F extends { error: string }
    ? 'error'
    : F extends { latitude: number }
      ? 'location'
      : 'message';

/** What a listener gets of a frame: its `data`, if it wraps one, else the whole frame. */
export type Heard<F> = F extends { data: infer D } ? D : F;

type Named<F, K> = F extends unknown ? (K extends Name<F> ? F : never) : never;

/** Listeners' arguments by name. */
export type Received<R> = { [K in Name<R>]: Heard<Named<R, K>> };

type WithoutType<F> = F extends unknown ? Omit<F, 'type'> : never;

/** What `send` takes by name. */
export type Sent<S> = { [K in Name<S>]: WithoutType<Named<S, K>> };
