import { paths } from "../api";
import { type Dataset, count, formatDate, number, text, texts } from "../dicom";
import { studyAddress } from "../router";
import { Thumbnail } from "./Thumbnail";

export function StudyCard({ study }: { study: Dataset }) {
  const uid = text(study, "StudyInstanceUID");
  const modalities = texts(study, "ModalitiesInStudy");
  const images = number(study, "NumberOfStudyRelatedInstances");
  const patient = text(study, "PatientName") || text(study, "PatientID");
  return (
    <li className="card">
      <a href={studyAddress(uid)}>
        <div className="card-picture">
          <Thumbnail resource={paths.study(uid)} modality={modalities[0] ?? ""} />
          <ul className="card-tags" aria-label="Modalities">
            {modalities.map((modality) => (
              <li className="tag" key={modality}>
                {modality}
              </li>
            ))}
          </ul>
        </div>
        <h2>{text(study, "StudyDescription") || <span className="soft">No description</span>}</h2>
        <p className="card-patient mono">{patient || "No patient ID"}</p>
        <p className="card-facts">
          <span>{formatDate(text(study, "StudyDate")) || "No date"}</span>
          {images !== undefined && <span>{count(images, "object")}</span>}
        </p>
      </a>
    </li>
  );
}
