import { edgesOf } from "../imaging/geometry";

/** Letters at the edges of an image that say which side of the patient they are. */
export function Edges({ orientation }: { orientation: readonly number[] }) {
  const edges = edgesOf(orientation);
  if (!edges) return null;
  return (
    <div className="edges" aria-hidden="true">
      <b className="edge-left">{edges.left}</b>
      <b className="edge-right">{edges.right}</b>
      <b className="edge-top">{edges.top}</b>
      <b className="edge-bottom">{edges.bottom}</b>
    </div>
  );
}
