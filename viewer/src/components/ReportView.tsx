import { type Dataset, item, items, number, text, unitSign } from "../dicom";

/** Structured reports (PS3.3 C.17.3) as the nested lists that they are. */
export function ReportView({ reports }: { reports: readonly Dataset[] }) {
  return (
    <div className="report">
      {reports.map((report) => (
        <article key={text(report, "SOPInstanceUID")}>
          <h2>{nameOf(report) || "Report"}</h2>
          <Contents of={report} />
        </article>
      ))}
    </div>
  );
}

function Contents({ of }: { of: Dataset }) {
  const content = items(of, "ContentSequence");
  if (content.length === 0) return null;
  return (
    <ul>
      {content.map((entry, at) => (
        <li key={at}>
          <span className="report-name">{nameOf(entry)}</span> <span className="report-value">{valueOf(entry)}</span>
          <Contents of={entry} />
        </li>
      ))}
    </ul>
  );
}

const nameOf = (entry: Dataset): string => text(item(entry, "ConceptNameCodeSequence"), "CodeMeaning");

function valueOf(entry: Dataset): string {
  switch (text(entry, "ValueType")) {
    case "NUM": {
      const measured = item(entry, "MeasuredValueSequence");
      const unit = unitSign(text(item(measured, "MeasurementUnitsCodeSequence"), "CodeValue"));
      return `${number(measured, "NumericValue")?.toLocaleString("en-GB") ?? "not measured"} ${unit}`;
    }
    case "CODE":
      return text(item(entry, "ConceptCodeSequence"), "CodeMeaning");
    case "TEXT":
      return text(entry, "TextValue");
    case "UIDREF":
      return text(entry, "UID");
    default:
      return "";
  }
}
