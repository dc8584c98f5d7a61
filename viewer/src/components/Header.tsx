import type { Info } from "../api";
import { BASE } from "../base";
import { Mark } from "./Mark";

const PROFILES: Record<string, string> = {
  none: "Objects are kept as they came",
  basic: "De-identified on arrival (basic profile)",
  research: "De-identified on arrival (research profile)",
};

export function Header({ info }: { info: Info | null }) {
  return (
    <header className="header">
      <a className="brand" href={BASE} aria-label="Isthmus: all studies">
        <Mark />
        <span>Isthmus</span>
      </a>
      {info && (
        <ul className="header-facts">
          {info.demo && <li className="tag tag-demo">Demo data</li>}
          <li className={info.profile === "none" ? "warn" : ""}>
            {PROFILES[info.profile] ?? `De-identified on arrival (${info.profile})`}
          </li>
          <li className="mono">{info.dicom}</li>
        </ul>
      )}
    </header>
  );
}
