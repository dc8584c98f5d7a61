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
    <li class="card">
      <a href={studyAddress(uid)}>
        <div class="card-picture">
          <Thumbnail resource={paths.study(uid)} modality={modalities[0] ?? ""} />
          <ul class="card-tags" aria-label="Modalities">
            {modalities.map((modality) => (
              <li class="tag" key={modality}>
                {modality}
              </li>
            ))}
          </ul>
        </div>
        <h2>{text(study, "StudyDescription") || <span class="soft">No description</span>}</h2>
        <p class="card-patient mono">{patient || "No patient ID"}</p>
        <p class="card-facts">
          <span>{formatDate(text(study, "StudyDate")) || "No date"}</span>
          {images !== undefined && <span>{count(images, "object")}</span>}
        </p>
      </a>
    </li>
  );
}
