/** Sending files of this computer to the archive by STOW-RS, in requests of bounded size. */

import { ApiError, storeInstances } from "./api";
import { items, number } from "./dicom";

export interface UploadProgress {
  total: number;
  sent: number;
  stored: number;
  /** One line for each reason, with the number of files that it kept out. */
  refused: Map<string, number>;
  done: boolean;
}

const MAX_BATCH_FILES = 40;
const MAX_BATCH_BYTES = 64 << 20;

/** Failure reasons of PS3.18 Table I.2-2 and PS3.4 Table B.2-1, by their first hexadecimal digits. */
const REASONS: readonly [RegExp, string][] = [
  [/^A7/, "the storage is full or the file is too large"],
  [/^0122$/, "this kind of object is not accepted"],
  [/^0124$/, "you may not store objects here"],
  [/^C002$/, "the de-identification policy refuses it"],
  [/^C001$/, "an object with the same UID and other content is stored already"],
  [/^C/, "not a readable DICOM file"],
  [/^A9/, "it does not match its SOP class"],
];

export async function upload(
  files: readonly File[],
  onProgress: (progress: UploadProgress) => void,
  signal: AbortSignal,
): Promise<void> {
  const progress: UploadProgress = { total: files.length, sent: 0, stored: 0, refused: new Map(), done: false };
  for (const batch of batchesOf(files)) {
    try {
      const answer = await storeInstances(batch, signal);
      const failed = [...items(answer, "FailedSOPSequence"), ...items(answer, "OtherFailuresSequence")];
      progress.stored += items(answer, "ReferencedSOPSequence").length;
      for (const failure of failed) refuse(progress, reasonOf(number(failure, "FailureReason") ?? 0x0110), 1);
    } catch (error) {
      if (signal.aborted) break;
      refuse(progress, error instanceof ApiError ? error.message : "the connection was lost", batch.length);
    }
    progress.sent += batch.length;
    onProgress({ ...progress });
  }
  onProgress({ ...progress, done: true });
}

function refuse(progress: UploadProgress, reason: string, files: number): void {
  progress.refused.set(reason, (progress.refused.get(reason) ?? 0) + files);
}

export function reasonOf(failure: number): string {
  const code = failure.toString(16).toUpperCase().padStart(4, "0");
  return REASONS.find(([pattern]) => pattern.test(code))?.[1] ?? `the gateway could not process it (0x${code})`;
}

export function batchesOf<File extends { size: number }>(files: readonly File[]): File[][] {
  const batches: File[][] = [];
  let bytes = 0;
  for (const file of files) {
    const last = batches.at(-1);
    if (last && last.length < MAX_BATCH_FILES && bytes + file.size <= MAX_BATCH_BYTES) {
      last.push(file);
      bytes += file.size;
    } else {
      batches.push([file]);
      bytes = file.size;
    }
  }
  return batches;
}

/** All files that were dropped, also those inside folders. */
export async function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (entries.length === 0) return [...transfer.files];
  return (await Promise.all(entries.map(filesIn))).flat();
}

async function filesIn(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile)
    return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FileSystemEntry[] = [];
  // readEntries answers with at most 100 entries a call, and with none at the end.
  for (;;) {
    const more = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (more.length === 0) break;
    found.push(...more);
  }
  return (await Promise.all(found.map(filesIn))).flat();
}
