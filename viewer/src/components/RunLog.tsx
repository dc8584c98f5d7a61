import { useEffect, useRef, useState } from "preact/hooks";
import { type RunState, readLog } from "../api";
import { asApiError } from "../hooks";

/** The log of a run while it is written. */
export function RunLog({ id, state }: { id: string; state: RunState }) {
  const [log, setLog] = useState("");
  const box = useRef<HTMLPreElement>(null);
  const active = state === "queued" || state === "running";
  useEffect(() => {
    const control = new AbortController();
    let text = "";
    readLog(
      id,
      (chunk) => {
        text += chunk;
        setLog(text);
      },
      control.signal,
    ).catch((error: unknown) => !control.signal.aborted && setLog(asApiError(error).message));
    return () => control.abort();
  }, [id, active]);
  useEffect(() => box.current?.scrollTo(0, box.current.scrollHeight), [log]);
  return (
    <pre class="log" ref={box} tabIndex={0} aria-label="Log">
      {log || "Nothing was logged yet."}
    </pre>
  );
}
