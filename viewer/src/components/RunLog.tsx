import { useEffect, useRef, useState } from "react";
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
  useEffect(() => {
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [log]);
  return (
    <pre className="log" ref={box} tabIndex={0} aria-label="Log">
      {log || "Nothing was logged yet."}
    </pre>
  );
}
