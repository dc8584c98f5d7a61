import type { ApiError } from "../api";
import { Icon } from "./Icon";

/** Says what went wrong and offers to try again. */
export function Notice({ error, retry }: { error: ApiError; retry?: () => void }) {
  return (
    <div class="notice" role="alert">
      <Icon name="warning" />
      <p>{error.message}</p>
      {retry && (
        <button type="button" class="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}
