/** One connection attempt to a Socket.IO namespace. Reconnecting is the business of signalling.ts, not of the library:
 *  its backoff, its buffers and its ids know nothing of the person's stream. */
import { io } from 'socket.io-client';
import type { Namespace } from './wire_types';

export interface SocketEvents {
  connected(): void;
  /** The connection is gone, or never came about. `code` is set when the server itself said no. */
  closed(code: string | null): void;
  message(data: unknown): void;
  ping(data: unknown, answer: (data: unknown) => void): void;
}

export interface WireSocket {
  send(data: unknown, answered: (data: unknown) => void): void;
  close(): void;
}

export type OpenSocket = (namespace: Namespace, auth: Record<string, string>, events: SocketEvents) => WireSocket;

const CONNECT_TIMEOUT_MS = 8000; // a TLS handshake on a bad mobile network takes three round trips of a second

export const openSocket: OpenSocket = (namespace, auth, events) => {
  const socket = io(`/${namespace}`, {
    auth,
    transports: ['websocket'],
    reconnection: false,
    forceNew: true,
    timeout: CONNECT_TIMEOUT_MS,
  });
  socket.on('connect', () => events.connected());
  socket.on('disconnect', () => events.closed(null));
  socket.on('connect_error', (error: Error & { type?: string; data?: { code?: string } }) => {
    // Failures of the transport have a type; a refusal by the namespace has the server's words.
    const refused = error.type === undefined && error.message !== 'timeout';
    events.closed(refused ? (error.data?.code ?? error.message) : null);
  });
  socket.on('m', (data: unknown) => events.message(data));
  socket.on('p', (data: unknown, answer?: (data: unknown) => void) => events.ping(data, answer ?? (() => undefined)));
  return {
    send: (data, answered) => void socket.emit('m', data, answered),
    close: () => void socket.close(),
  };
};
