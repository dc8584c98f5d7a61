import type { Info } from "../api";
import { Mark } from "./Mark";

const PROFILES: Record<string, string> = {
  none: "Objects are kept as they came",
  basic: "De-identified on arrival (basic profile)",
  research: "De-identified on arrival (research profile)",
};

export function Header({ info }: { info: Info | null }) {
  return (
    <header class="header">
      <a class="brand" href="/" aria-label="Isthmus: all studies">
        <Mark />
        <span>Isthmus</span>
      </a>
      {info && (
        <ul class="header-facts">
          {info.demo && <li class="tag tag-demo">Demo data</li>}
          <li class={info.profile === "none" ? "warn" : ""}>
            {PROFILES[info.profile] ?? `De-identified on arrival (${info.profile})`}
          </li>
          <li class="mono">{info.dicom}</li>
        </ul>
      )}
    </header>
  );
}
