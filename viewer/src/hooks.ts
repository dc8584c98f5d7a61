/** Hooks that several pages use. */

import { type DependencyList, useCallback, useEffect, useEffectEvent, useRef, useState } from "react";
import { ApiError } from "./api";
import { type ServerEvent, subscribe } from "./events";

export interface Resource<T> {
  data: T | null;
  error: ApiError | null;
  loading: boolean;
  /** Asks again and keeps what is shown until the answer is there. */
  reload: () => void;
}

/** Loads something when `inputs` change; an answer that came too late is dropped. */
export function useResource<T>(load: (signal: AbortSignal) => Promise<T>, inputs: DependencyList): Resource<T> {
  const [state, setState] = useState<{ data: T | null; error: ApiError | null; loading: boolean }>({
    data: null,
    error: null,
    loading: true,
  });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const control = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    load(control.signal).then(
      (data) => !control.signal.aborted && setState({ data, error: null, loading: false }),
      (error: unknown) =>
        !control.signal.aborted &&
        setState((before) => ({ data: before.data, error: asApiError(error), loading: false })),
    );
    return () => control.abort();
  }, [...inputs, round]);
  const reload = useCallback(() => setRound((before) => before + 1), []);
  return { ...state, reload };
}

export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) {
    if (error.status === 401) dispatchEvent(new Event(SIGNED_OUT));
    return error;
  }
  return new ApiError(0, error instanceof Error ? error.message : String(error));
}

/** Sent to the window when the server wants to know who is asking. */
export const SIGNED_OUT = "isthmus:signed-out";

export function useServerEvents(listener: (event: ServerEvent) => void): void {
  const tell = useEffectEvent(listener);
  useEffect(() => subscribe(tell), []);
}

/** `call`, once things have been quiet for `delay_ms`. */
export function useDebounced(call: () => void, delay_ms: number): () => void {
  const timer = useRef(0);
  const latest = useRef(call);
  useEffect(() => {
    latest.current = call;
  });
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback(() => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => latest.current(), delay_ms);
  }, [delay_ms]);
}

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} · Isthmus` : "Isthmus";
  }, [title]);
}
