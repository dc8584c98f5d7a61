/** Line icons on a 24 unit grid. They decorate: what they mean is said in words beside them or by their button. */

const PATHS = {
  arrow: "M19 12H5m6-6-6 6 6 6",
  cancel: "M6 6l12 12M18 6 6 18",
  check: "M5 12.500l4.500 4.500L19 7.500",
  chevron: "M9 6l6 6-6 6",
  contrast: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  cube: "M12 3l8 4.500v9L12 21l-8-4.500v-9zM12 12l8-4.500M12 12v9M12 12L4 7.500",
  external: "M14 5h5v5M19 5l-8 8M17 14v4.500a.5.5 0 0 1-.5.5h-11a.5.5 0 0 1-.5-.5v-11a.5.5 0 0 1 .5-.5H10",
  image: "M4 5.500h16v13H4zM4 16l4.500-5 4 4.500 2.500-2.500L20 17M15.500 9.500h.01",
  layers: "M12 4l8.500 4.500L12 13 3.500 8.500zM3.500 12.500 12 17l8.500-4.500M3.500 16.500 12 21l8.500-4.500",
  play: "M8 5.500v13l10.500-6.500z",
  report: "M6 4h9l4 4v12H6zM14.500 4v4.500H19M9 12.500h6M9 16h6",
  reset: "M4.500 12a7.500 7.500 0 1 0 2.500-5.600L4.500 8.500M4.500 4v4.500H9",
  search: "M11 5a6 6 0 1 0 0 12 6 6 0 0 0 0-12zm4.500 10.500L20 20",
  upload: "M12 16V5M7.500 9.500 12 5l4.500 4.500M5 20h14",
  warning: "M12 4 3 19.500h18zM12 10v4.500M12 17h.01",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
