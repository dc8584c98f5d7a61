import { edgesOf } from "../imaging/geometry";

/** Letters at the edges of an image that say which side of the patient they are. */
export function Edges({ orientation }: { orientation: readonly number[] }) {
  const edges = edgesOf(orientation);
  if (!edges) return null;
  return (
    <div class="edges" aria-hidden="true">
      <b class="edge-left">{edges.left}</b>
      <b class="edge-right">{edges.right}</b>
      <b class="edge-top">{edges.top}</b>
      <b class="edge-bottom">{edges.bottom}</b>
    </div>
  );
}
