import type { Info } from "../api";

const PROFILES: Record<string, string> = {
  none: "Objects are kept as they came",
  basic: "De-identified on arrival (basic profile)",
  research: "De-identified on arrival (research profile)",
};

export function Header({ info }: { info: Info | null }) {
  return (
    <header class="header">
      <a class="brand" href="/" aria-label="Isthmus: all studies">
        <svg viewBox="2 9 28 14" aria-hidden="true">
          <path d="M9 9.500a6.500 6.500 0 1 0 4.600 11.100c1.500-1.300 3.300-1.300 4.800 0a6.500 6.500 0 1 0 0-9.200c-1.500 1.300-3.300 1.300-4.800 0A6.500 6.500 0 0 0 9 9.500z" />
        </svg>
        <span>Isthmus</span>
      </a>
      {info && (
        <ul class="header-facts">
          {info.demo && <li class="tag tag-demo">Demo data</li>}
          <li class={info.profile === "none" ? "warn" : ""}>{PROFILES[info.profile] ?? `De-identified on arrival (${info.profile})`}</li>
          <li class="mono">{info.dicom}</li>
        </ul>
      )}
    </header>
  );
}
