import type { Info } from "../api";

/** What to do with an archive that has no studies yet. */
export function EmptyArchive({ info }: { info: Info | null }) {
  const { title, host, port } = listener(info);
  const stow = `${location.origin}/dicomweb/studies`;
  return (
    <section className="empty">
      <h2>No studies yet</h2>
      <p>Drop DICOM files or folders on this page, or let another system send them:</p>
      <dl>
        <div>
          <dt>DICOM (C-STORE)</dt>
          <dd>
            AE title <code>{title}</code>, host <code>{host}</code>, port <code>{port}</code>
            <pre>
              storescu -aec {title} {host} {port} --scan-directories --recurse FOLDER
            </pre>
          </dd>
        </div>
        <div>
          <dt>DICOMweb (STOW-RS)</dt>
          <dd>
            <code>POST {stow}</code>
          </dd>
        </div>
        <div>
          <dt>On this machine</dt>
          <dd>
            <pre>isthmus import FOLDER</pre>
          </dd>
        </div>
      </dl>
    </section>
  );
}

/** The parts of "AET@HOST:PORT". A gateway that listens on all addresses is reached by the name in the address bar. */
function listener(info: Info | null): { title: string; host: string; port: string } {
  const match = /^(.+)@(.+):(\d+)$/.exec(info?.dicom ?? "");
  const [title = "ISTHMUS", host = "", port = ""] = match?.slice(1) ?? [];
  return { title, host: ["0.0.0.0", "[::]", ""].includes(host) ? location.hostname : host, port };
}
