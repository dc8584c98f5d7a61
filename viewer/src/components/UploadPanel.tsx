import type { UploadProgress } from "../upload";
import { count } from "../dicom";
import { Icon } from "./Icon";

/** How far an upload is, and what was not accepted. */
export function UploadPanel({ progress, onClose }: { progress: UploadProgress; onClose: () => void }) {
  const { total, sent, stored, refused, done } = progress;
  return (
    <section className="upload" aria-live="polite" aria-label="Upload">
      <header>
        <h2>
          {done
            ? `${count(stored, "object")} stored`
            : `Storing ${sent.toLocaleString("en-GB")} of ${count(total, "file")}`}
        </h2>
        <button
          type="button"
          className="button button-quiet"
          onClick={onClose}
          aria-label={done ? "Close" : "Stop the upload"}
        >
          <Icon name="cancel" />
        </button>
      </header>
      {!done && <progress max={total} value={sent} />}
      {refused.size > 0 && (
        <ul>
          {[...refused].map(([reason, files]) => (
            <li key={reason}>
              {count(files, "file")} left out: {reason}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
