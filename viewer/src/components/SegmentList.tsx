import type { CSSProperties } from "react";
import type { Overlay } from "../imaging/segmentation";

interface Props {
  overlay: Overlay;
  hidden: ReadonlySet<number>;
  onChange: (hidden: ReadonlySet<number>) => void;
}

/** The segments of the overlay, each of which can be hidden. */
export function SegmentList({ overlay, hidden, onChange }: Props) {
  const toggle = (segment: number) => {
    const next = new Set(hidden);
    if (!next.delete(segment)) next.add(segment);
    onChange(next);
  };
  if (overlay.extent === 0) return <p className="segments">This segmentation does not lie on these slices.</p>;
  return (
    <fieldset className="segments">
      <legend className="hidden">Segments shown</legend>
      {overlay.segmentation.segments.map(({ number, label, color }) => (
        <label key={number}>
          <input
            type="checkbox"
            checked={!hidden.has(number)}
            style={{ "--segment": `rgb(${color.join(" ")})` } as CSSProperties}
            onChange={() => toggle(number)}
          />
          {label}
        </label>
      ))}
    </fieldset>
  );
}
