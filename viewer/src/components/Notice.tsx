import type { ApiError } from "../api";
import { Icon } from "./Icon";

/** Says what went wrong and offers to try again. */
export function Notice({ error, retry }: { error: ApiError; retry?: () => void }) {
  return (
    <div className="notice" role="alert">
      <Icon name="warning" />
      <p>{error.message}</p>
      {retry && (
        <button type="button" className="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}
