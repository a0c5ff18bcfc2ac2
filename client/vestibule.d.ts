import type { Socket } from "socket.io-client";

/** Where an event stands in its room. Ordered by epoch, then by seq. */
export interface Place {
  epoch: number;
  seq: number;
}

export type Code =
  | "unauthenticated" | "forbidden" | "not_found" | "invalid" | "too_large"
  | "rate_limited" | "overloaded" | "unavailable" | "conflict" | "internal";

/** What the gateway said no to. */
export declare class Refusal extends Error {
  constructor(error?: { code?: Code; message?: string; field?: string; retryAfterMs?: number });
  readonly code: Code;
  readonly field?: string;
  readonly retryAfterMs?: number;
  /** Whether the same may work later. */
  readonly isRetryable: boolean;
}

export interface Reload extends Place {
  conversationId: string;
  /** `trimmed`, `epoch_changed`, … */
  reason: string;
}

export interface Joined extends Place {
  /** Events that were missed and have been handed on. */
  missed: number;
  /** Why history had to be read, or "". */
  reloaded: string;
}

export interface Recovered {
  /** The gateway still had the session (`socket.recovered`). */
  isRecovered: boolean;
  missed: number;
  /** Conversations of which history had to be read. */
  reloaded: string[];
}

export interface Degraded {
  what: string;
  since: string;
  until?: string;
}

export interface Listeners {
  /** Something happened in a conversation: each once, in the order of the places. */
  event(name: string, data: Record<string, unknown>, how: { isMissed: boolean }): void;
  /** What was missed cannot be told: read history. */
  reload(what: Reload): void;
  joined(what: Joined & { conversationId: string }): void;
  connected(what: { isRecovered: boolean }): void;
  /** The connection is lost; it comes back by itself. */
  lost(reason: string): void;
  /** It is back, and nothing is missing any more. */
  recovered(what: Recovered): void;
  /** The gateway does not let this user in; nothing is tried again. */
  refused(refusal: Refusal): void;
  /** Something behind the gateway does not work, or works again (`until`). */
  degraded(what: Degraded): void;
  /** A send has to be repeated, and is; what the gateway said, and how long it waits. */
  delayed(what: { event: string; clientMessageId: string; refusal: Refusal; waitMs: number }): void;
  closed(): void;
}

export interface Options {
  /** How long an ack may take before it counts as lost. 10,000 ms. */
  ackMs?: number;
  /** The pause before something is tried again, where the gateway does not say how long. 1,000 ms. */
  retryMs?: number;
  /** The bound of the first pause before reconnecting; it doubles up to `backoffMaxMs`. 500 and 10,000 ms. */
  backoffMs?: number;
  backoffMaxMs?: number;
  /** A connection that lasted so long was good: the bound is `backoffMs` again. 10,000 ms. */
  stableMs?: number;
  /**
   * Sends that may be without an ack at once. 1 keeps their order whatever has to be repeated; more are faster, and
   * one that has to be repeated may come after later ones.
   */
  inFlight?: number;
  /** Whether rooms are joined again after a lost connection; else the application calls `join`. true. */
  autoJoin?: boolean;
  /** Reads history, and answers the place up to which it did. Live events wait for it. */
  reload?(what: Reload): Promise<Place | undefined | null | void> | Place | undefined | null | void;
  /** From 0 to below 1. */
  random?(): number;
}

export declare class Vestibule {
  /** Takes over reconnecting of the socket's manager, and connects. */
  constructor(socket: Socket, options?: Options);
  readonly socket: Socket;
  /** What does not work at present, and since when. */
  readonly degraded: Map<string, string>;
  readonly isConnected: boolean;
  /** Sends without an ack. */
  readonly pending: number;
  on<Name extends keyof Listeners>(name: Name, listener: Listeners[Name]): this;
  off<Name extends keyof Listeners>(name: Name, listener: Listeners[Name]): this;
  /** Into a conversation, and to stay. Resolves when nothing is missing. Rejects with a {@link Refusal} for good. */
  join(conversationId: string, options?: { after?: Place }): Promise<Joined>;
  leave(conversationId: string): void;
  /** Up to where a conversation's events were handed on. */
  place(conversationId: string): Place | undefined;
  isIn(conversationId: string): boolean;
  /** Sends a message until the log has it. Rejects with a {@link Refusal} for good. */
  send(
    conversationId: string, fields: Record<string, unknown>, clientMessageId?: string,
  ): Promise<{ ok: true; id: string; room: string; at: string }>;
  /** The same for any event that takes a `clientMessageId`. */
  deliver<Ack = { ok: true; id: string }>(
    event: string, data: Record<string, unknown>, clientMessageId?: string,
  ): Promise<Ack>;
  /** Asks once. Rejects with a {@link Refusal}, also when there is no answer. */
  ask<Ack = { ok: true }>(event: string, data: unknown): Promise<Ack>;
  /** Tries to connect now. */
  reconnect(): void;
  close(): void;
}

/** Which of two places comes first: less than 0 if `a` does. */
export declare function compare(a: Place, b: Place): number;

/** An id that no other message has. */
export declare function newId(): string;
