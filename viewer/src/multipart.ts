/** multipart/related bodies (RFC 2387), as WADO-RS answers and STOW-RS takes them. */

const CRLF = new Uint8Array([13, 10]);
const HEADER_END = new Uint8Array([13, 10, 13, 10]);

/** The boundary named by a Content-Type, or null where the body is not multipart. */
export function boundaryOf(contentType: string): string | null {
  if (!/^multipart\//i.test(contentType)) return null;
  const match = /boundary="([^"]+)"|boundary=([^;\s]+)/i.exec(contentType);
  return match?.[1] ?? match?.[2] ?? null;
}

/** The bodies of all parts, as views: nothing is copied. */
export function partsOf(body: Uint8Array<ArrayBuffer>, boundary: string): Uint8Array<ArrayBuffer>[] {
  const delimiter = new TextEncoder().encode(`--${boundary}`);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let start = indexOf(body, delimiter, 0);
  while (start >= 0) {
    const headers = start + delimiter.length;
    if (body[headers] === 45 && body[headers + 1] === 45) break; // the closing delimiter ends with two hyphens
    const content = indexOf(body, HEADER_END, headers);
    if (content < 0) break;
    const next = indexOf(body, delimiter, content + HEADER_END.length);
    const end = next < 0 ? body.length : next - CRLF.length;
    parts.push(body.subarray(content + HEADER_END.length, end));
    start = next;
  }
  return parts;
}

/** A body of DICOM files for STOW-RS; the browser streams the files from disk. */
export function multipartOf(files: readonly Blob[], boundary: string): Blob {
  const header = `--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`;
  return new Blob([...files.flatMap((file) => [header, file, "\r\n"]), `--${boundary}--\r\n`]);
}

function indexOf(body: Uint8Array, pattern: Uint8Array, from: number): number {
  const first = pattern[0] as number;
  for (let at = body.indexOf(first, from); at >= 0; at = body.indexOf(first, at + 1)) {
    let length = 1;
    while (length < pattern.length && body[at + length] === pattern[length]) length += 1;
    if (length === pattern.length) return at;
  }
  return -1;
}
