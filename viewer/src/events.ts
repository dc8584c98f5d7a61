/** What the server tells without being asked (server-sent events): one connection for the whole application. */

import { type Run, paths } from "./api";

export type ServerEvent =
  | { name: "run"; data: Run }
  | { name: "stored"; data: { study: string; series: string; instances: number } }
  | { name: "deleted"; data: { study: string } }
  /** The connection is back: what happened in between has to be asked for. */
  | { name: "resumed"; data: null };

type Listener = (event: ServerEvent) => void;

const RETRY_MS = 3000;
const NAMES = ["run", "stored", "deleted"] as const;

const listeners = new Set<Listener>();
let source: EventSource | null = null;
let interrupted = false;

/** Calls `listener` for every event until the returned function is called. */
export function subscribe(listener: Listener): () => void {
  listeners.add(listener);
  source ??= connect();
  return () => {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    source?.close();
    source = null;
  };
}

/** The data of an event, or null where it is not JSON. */
export function parse(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}

function connect(): EventSource {
  const stream = new EventSource(paths.events);
  for (const name of NAMES) {
    stream.addEventListener(name, (event) => {
      const data = parse(event.data as string);
      if (data !== null) emit({ name, data } as ServerEvent);
    });
  }
  stream.onopen = () => {
    if (interrupted) emit({ name: "resumed", data: null });
    interrupted = false;
  };
  stream.onerror = () => {
    interrupted = true;
    // The browser reconnects after a lost connection, but gives up after an error status.
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => reconnect(stream), RETRY_MS);
  };
  return stream;
}

function reconnect(stream: EventSource): void {
  if (source === stream) source = connect();
}

function emit(event: ServerEvent): void {
  for (const listener of listeners) listener(event);
}
