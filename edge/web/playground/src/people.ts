/** The protocols, in the order in which they are shown. */
export const PROTOCOLS = ['consultation', 'therapy', 'clinic', 'mobile', 'mentoring'] as const;
export type ProtocolName = (typeof PROTOCOLS)[number];

/** Somebody who may enter a protocol's conversation, by one of the three credentials. */
export interface Person {
  protocol: ProtocolName;
  id: string;
  name: string;
  role: string;
  token?: string;
  device_id?: string;
  session?: string;
}

/** What `playground.json` says. */
export interface World {
  people: Person[];
  /** The ids of each protocol's conversation, as its URL takes them. */
  conversations: Partial<Record<ProtocolName, string[]>>;
  /** Whether the server tells which gRPC calls it makes for this page's sockets. */
  calls?: boolean;
}

/** Asks the server; it may have just begun, and not know yet. */
export async function fetchWorld(): Promise<World> {
  for (;;) {
    const answer = await fetch('playground.json');
    if (answer.ok) return (await answer.json()) as World;
    if (answer.status !== 503) throw new Error(`playground.json: ${answer.status}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}
