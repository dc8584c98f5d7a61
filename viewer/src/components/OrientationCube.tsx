import type { Ref } from "react";
import { DIRECTIONS, type Direction, faceTransform } from "../imaging/orientation";

interface Props {
  /** Turned with the camera by whoever owns it, without drawing the page again. */
  cube: Ref<HTMLDivElement>;
  onLook: (from: Direction) => void;
}

const HALF_PX = 24;

/** A cube that says how the patient lies, and turns the view to the side that is pressed. */
export function OrientationCube({ cube, onLook }: Props) {
  return (
    <div className="cube" role="group" aria-label="Look from">
      <div className="cube-body" ref={cube}>
        {DIRECTIONS.map((direction) => (
          <button
            key={direction.letter}
            type="button"
            style={{ transform: faceTransform(direction, HALF_PX) }}
            aria-label={direction.name}
            title={`From: ${direction.name.toLowerCase()}`}
            onClick={() => onLook(direction)}
          >
            {direction.letter}
          </button>
        ))}
      </div>
    </div>
  );
}
