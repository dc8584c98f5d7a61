import { useState } from "react";
import type { OfferedPlugin, Output, Run } from "../api";
import { type Dataset, seriesUid } from "../dicom";
import { Icon } from "./Icon";
import { PluginForm } from "./PluginForm";
import { RunCard } from "./RunCard";

interface Props {
  study: string;
  offered: OfferedPlugin[] | null;
  series: readonly Dataset[];
  current: Dataset | undefined;
  runs: readonly Run[];
  onStarted: (run: Run) => void;
  onShow: (output: Output) => void;
}

/** The plugins that a study can be given to, and what became of their runs. */
export function PluginPanel({ study, offered, series, current, runs, onStarted, onShow }: Props) {
  const [open, setOpen] = useState<string | null>(null);
  const [earlier, setEarlier] = useState<Run | null>(null);
  const repeat = (run: Run) => {
    setEarlier(run);
    setOpen(run.plugin);
  };
  const begun = (run: Run) => {
    setOpen("");
    onStarted(run);
  };
  // Until the reader opens one: the first, where nothing was run yet.
  const shown = open ?? (runs.length === 0 ? offered?.[0]?.name : "");
  return (
    <>
      <h2>Plugins</h2>
      {offered?.length === 0 && <p className="soft">No plugin accepts the series of this study.</p>}
      {offered?.map((plugin) => (
        <section className="plugin" key={plugin.name} data-plugin={plugin.name}>
          <button
            type="button"
            className="plugin-head"
            aria-expanded={plugin.name === shown}
            onClick={() => setOpen(plugin.name === shown ? "" : plugin.name)}
          >
            <Icon name="chevron" />
            <span>
              <b>{plugin.title}</b>
              <small>{plugin.description}</small>
            </span>
          </button>
          {plugin.name === shown && (
            <PluginForm
              key={earlier?.id ?? ""}
              study={study}
              plugin={plugin}
              series={series}
              current={current ? seriesUid(current) : ""}
              earlier={earlier?.plugin === plugin.name ? earlier.parameters : null}
              onStarted={begun}
            />
          )}
        </section>
      ))}
      {runs.length > 0 && (
        <>
          <h2>Runs</h2>
          <ul className="runs">
            {runs.map((run) => (
              <RunCard key={run.id} run={run} onShow={onShow} onRepeat={repeat} />
            ))}
          </ul>
        </>
      )}
    </>
  );
}
