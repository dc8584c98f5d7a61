/** What the study page shows beside the images themselves, and in which order. */

import { useMemo, useState } from "react";
import { type Run, listRuns } from "../api";
import { type Dataset, number, seriesUid, text } from "../dicom";
import { useResource, useServerEvents } from "../hooks";
import { type Segmentation, readSegmentations } from "../imaging/segmentation";
import { setQuery } from "../router";

/** Modalities whose objects are about images, not images themselves; the first are the most telling. */
const DERIVED = ["SEG", "SR", "RTSTRUCT", "RTDOSE", "RTPLAN", "DOC", "M3D", "ECG", "ANN", "KO", "PR", "RWV"];

/** Runs of the study, kept current by the server's events. A result that was just made is shown on the images. */
export function useRuns(study: string) {
  const listed = useResource((signal) => listRuns(study, signal), [study]);
  const [changes, setChanges] = useState<ReadonlyMap<string, Run>>(new Map());
  const [mine, setMine] = useState<ReadonlySet<string>>(new Set());
  const remember = (run: Run) => setChanges((before) => new Map(before).set(run.id, run));
  useServerEvents(({ name, data: run }) => {
    if (name !== "run" || run.study !== study) return;
    remember(run);
    if (run.state !== "succeeded" || !mine.has(run.id)) return;
    const made = run.outputs.find(({ kind }) => kind === "images" || kind === "seg");
    if (made?.kind === "images") setQuery({ series: made.series ?? "", seg: "", mesh: "" });
    else if (made) setQuery({ series: run.series[0] ?? "", seg: made.series ?? "", mesh: "" });
  });
  const runs = useMemo(() => merged(listed.data ?? [], changes), [listed.data, changes]);
  const started = (run: Run) => {
    setMine((before) => new Set(before).add(run.id));
    remember(run);
  };
  return { runs, started, reloadRuns: listed.reload };
}

const ENDED = new Set<string>(["succeeded", "failed", "cancelled", "timed_out"]);

/** Newest first. Of two states of a run the later one counts: an ended run does not go back. */
export function merged(listed: readonly Run[], changes: ReadonlyMap<string, Run>): Run[] {
  const runs = new Map(listed.map((run) => [run.id, run]));
  for (const run of changes.values()) {
    const known = runs.get(run.id);
    if (!known || !ENDED.has(known.state)) runs.set(run.id, run);
  }
  return [...runs.values()].sort((a, b) => b.created.localeCompare(a.created));
}

/** All segmentations of the study: which series they lie on is in their metadata alone. */
export function useSegmentations(study: string, series: readonly Dataset[] | null): Segmentation[] {
  const uids = (series ?? []).filter((entry) => text(entry, "Modality") === "SEG").map((entry) => seriesUid(entry));
  const found = useResource(
    async (signal) =>
      (await Promise.all(uids.map((uid) => readSegmentations(study, uid, signal).catch(() => [])))).flat(),
    [study, uids.join()],
  );
  return found.data ?? [];
}

/** Images before what was derived from them, each by SeriesNumber. */
export function inReadingOrder(series: readonly Dataset[]): Dataset[] {
  const rank = (entry: Dataset) =>
    (DERIVED.indexOf(text(entry, "Modality")) + 1) * 1e9 + (number(entry, "SeriesNumber") ?? 1e8);
  return series.toSorted((a, b) => rank(a) - rank(b));
}
