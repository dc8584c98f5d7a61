import { useState } from "react";
import { type Output, type Run, type RunState, cancelRun, meshAs } from "../api";
import { count, unitSign } from "../dicom";
import { asApiError } from "../hooks";
import { Icon, type IconName } from "./Icon";
import { RunLog } from "./RunLog";

interface Props {
  run: Run;
  onShow: (output: Output) => void;
  onRepeat: (run: Run) => void;
}

const STATES: Record<RunState, { word: string; icon: IconName | null }> = {
  queued: { word: "Waiting", icon: null },
  running: { word: "Running", icon: null },
  succeeded: { word: "Done", icon: "check" },
  failed: { word: "Failed", icon: "warning" },
  cancelled: { word: "Cancelled", icon: "cancel" },
  timed_out: { word: "Took too long", icon: "warning" },
};

const OUTPUT_ICONS: Record<string, IconName> = { mesh: "cube", seg: "layers", sr: "report" };

const MESH_FILES = [
  { name: "X3D", type: "model/x3d+xml" },
  { name: "GLB", type: "model/gltf-binary" },
  { name: "STL", type: "model/stl" },
];

/** One run of a plugin: how far it is, what it found, and what was done with which parameters. */
export function RunCard({ run, onShow, onRepeat }: Props) {
  const [details, setDetails] = useState(false);
  const active = run.state === "queued" || run.state === "running";
  const state = STATES[run.state];
  return (
    <li className="run" data-state={run.state}>
      <header>
        <h3>{run.title}</h3>
        <span className="run-state">
          {state.icon && <Icon name={state.icon} />}
          {state.word}
        </span>
      </header>
      <p className="run-facts">
        <time dateTime={run.created}>{timeOf(run.created)}</time>
        {run.started && run.finished && <span>{durationOf(run.started, run.finished)}</span>}
        <span>version {run.version}</span>
      </p>
      {active && <Progress run={run} />}
      {run.error && <p className="problem">{run.error}</p>}
      {run.measurements.length > 0 && <Measurements run={run} />}
      {run.outputs.length > 0 && (
        <ul className="outputs" aria-label="Results">
          {run.outputs.map((output, at) => (
            <OutputRow key={at} output={output} onShow={onShow} />
          ))}
        </ul>
      )}
      <details className="run-details" onToggle={(event) => setDetails(event.currentTarget.open)}>
        <summary>Parameters and log</summary>
        {details && (
          <>
            <dl>
              {Object.entries(run.parameters).map(([name, value]) => (
                <div key={name}>
                  <dt>{name}</dt>
                  <dd>{String(value)}</dd>
                </div>
              ))}
            </dl>
            <RunLog id={run.id} state={run.state} />
            <button type="button" className="button" onClick={() => onRepeat(run)}>
              Use these parameters again
            </button>
          </>
        )}
      </details>
    </li>
  );
}

function Progress({ run }: { run: Run }) {
  const [failure, setFailure] = useState("");
  const [asked, setAsked] = useState(false);
  const cancel = async () => {
    setAsked(true);
    setFailure("");
    try {
      await cancelRun(run.id);
    } catch (error) {
      setFailure(asApiError(error).message);
      setAsked(false);
    }
  };
  return (
    <div className="run-progress">
      <progress max={1} value={run.progress} aria-label={`Progress of ${run.title}`} />
      <p role="status">{run.message || "Waiting for a worker"}</p>
      <button type="button" className="button button-quiet" onClick={cancel} disabled={asked}>
        {asked ? "Cancelling…" : "Cancel"}
      </button>
      {failure && <p className="problem">{failure}</p>}
    </div>
  );
}

function Measurements({ run }: { run: Run }) {
  return (
    <table className="measurements">
      <caption className="hidden">Measurements of {run.title}</caption>
      <thead className="hidden">
        <tr>
          <th scope="col">Measurement</th>
          <th scope="col">Value</th>
        </tr>
      </thead>
      <tbody>
        {run.measurements.map(({ name, value, unit }) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            <td>
              {rounded(value)} <span className="soft">{unitSign(unit)}</span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function OutputRow({ output, onShow }: { output: Output; onShow: (output: Output) => void }) {
  const mesh = output.kind === "mesh" && output.url;
  return (
    <li>
      <button type="button" className="button" onClick={() => onShow(output)}>
        <Icon name={OUTPUT_ICONS[output.kind] ?? "image"} />
        {mesh ? `${output.title || "Model"} in 3D` : output.title || output.kind.toUpperCase()}
      </button>
      {output.triangles !== undefined && <span className="soft">{count(output.triangles, "triangle")}</span>}
      {mesh && (
        <span className="downloads">
          {MESH_FILES.map(({ name, type }) => (
            <a
              key={name}
              href={meshAs(mesh, type)}
              download={`${output.title || "mesh"}.${name.toLowerCase()}`}
              aria-label={`Download ${name}`}
            >
              {name}
            </a>
          ))}
        </span>
      )}
    </li>
  );
}

/** Three significant digits at least, and never fewer than the integer part has. */
function rounded(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en-GB", { maximumFractionDigits: digits });
}

function timeOf(instant: string): string {
  return new Date(instant).toLocaleString("en-GB", {
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
  });
}

function durationOf(from: string, to: string): string {
  const seconds = Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000);
  return seconds < 60
    ? `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
    : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
