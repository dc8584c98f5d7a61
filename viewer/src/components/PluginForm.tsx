import { type SubmitEvent, useMemo, useState } from "react";
import { type OfferedPlugin, type Run, getPlugin, startRun } from "../api";
import { type Dataset, count, number, seriesUid, text } from "../dicom";
import { asApiError, useResource } from "../hooks";
import {
  type ParameterSchema,
  type Values,
  fieldsOf,
  initialValues,
  parametersFrom,
  problemsIn,
  valuesFrom,
} from "../schema";
import { Icon } from "./Icon";
import { Notice } from "./Notice";
import { ParameterField } from "./ParameterField";

interface Props {
  study: string;
  plugin: OfferedPlugin;
  series: readonly Dataset[];
  /** The series that is looked at: taken as input where the plugin accepts it. */
  current: string;
  /** Parameters of an earlier run to start from. */
  earlier: Record<string, unknown> | null;
  onStarted: (run: Run) => void;
}

export function PluginForm(props: Props) {
  const { name } = props.plugin;
  const plugin = useResource((signal) => getPlugin(name, signal), [name]);
  if (plugin.error) return <Notice error={plugin.error} retry={plugin.reload} />;
  if (!plugin.data) return <p className="soft">Loading the parameters…</p>;
  return <LoadedForm {...props} schema={plugin.data.parameters} />;
}

function LoadedForm({
  study,
  plugin,
  series,
  current,
  earlier,
  schema,
  onStarted,
}: Props & { schema: ParameterSchema }) {
  const fields = useMemo(() => fieldsOf(schema), [schema]);
  const [values, setValues] = useState<Values>(() => (earlier ? valuesFrom(fields, earlier) : initialValues(fields)));
  const [chosen, setChosen] = useState("");
  const [failure, setFailure] = useState("");
  const [busy, setBusy] = useState(false);
  const inputs = series.filter((entry) => plugin.series.includes(seriesUid(entry)));
  const input = chosen || (plugin.series.includes(current) ? current : (plugin.series[0] ?? ""));
  const problems = problemsIn(fields, values);

  const submit = async (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    if (Object.keys(problems).length > 0) {
      event.currentTarget.querySelector<HTMLElement>("[aria-invalid=true]")?.focus();
      return;
    }
    setBusy(true);
    setFailure("");
    try {
      onStarted(await startRun(plugin.name, study, [input], parametersFrom(fields, values, schema)));
    } catch (error) {
      setFailure(asApiError(error).message);
    } finally {
      setBusy(false);
    }
  };

  return (
    <form className="plugin-form" onSubmit={submit} noValidate aria-label={`Parameters of ${plugin.title}`}>
      {inputs.length > 1 && (
        <label className="field">
          <span className="field-label">Series</span>
          <select value={input} onChange={(event) => setChosen(event.currentTarget.value)}>
            {inputs.map((entry) => (
              <option key={seriesUid(entry)} value={seriesUid(entry)}>
                {text(entry, "SeriesDescription") || text(entry, "Modality")},{" "}
                {count(number(entry, "NumberOfSeriesRelatedInstances") ?? 0, "object")}
              </option>
            ))}
          </select>
        </label>
      )}
      {fields.map((field) => (
        <ParameterField
          key={field.name}
          id={`${plugin.name}-${field.name}`}
          field={field}
          value={values[field.name] ?? ""}
          problem={problems[field.name] ?? ""}
          onChange={(value) => setValues((before) => ({ ...before, [field.name]: value }))}
        />
      ))}
      {failure && (
        <p className="problem" role="alert">
          {failure}
        </p>
      )}
      <div className="plugin-actions">
        <button type="submit" className="button button-main" disabled={busy}>
          <Icon name="play" />
          {busy ? "Starting…" : `Run ${plugin.title}`}
        </button>
        <button type="button" className="button button-quiet" onClick={() => setValues(initialValues(fields))}>
          Defaults
        </button>
      </div>
    </form>
  );
}
