/** Addresses of the application, below its base: the base itself lists studies, `studies/{uid}` shows one. */

import { useEffect, useState } from "react";
import { BASE, at } from "./base";

export interface Address {
  path: string;
  query: URLSearchParams;
}

const CHANGED = "isthmus:address";

const current = (): Address => ({ path: location.pathname, query: new URLSearchParams(location.search) });

export const studyAddress = (study: string): string => at(`studies/${study}`);

export function studyOf(path: string): string | null {
  if (!path.startsWith(BASE)) return null;
  return /^studies\/([0-9.]+)\/?$/.exec(path.slice(BASE.length))?.[1] ?? null;
}

/** Goes to an address of the application without loading the page again. */
export function navigate(to: string, how: "push" | "replace" = "push"): void {
  if (how === "push") history.pushState(null, "", to);
  else history.replaceState(null, "", to);
  dispatchEvent(new Event(CHANGED));
}

/** Changes parts of the query; empty values are left out. */
export function setQuery(changes: Record<string, string>, how: "push" | "replace" = "replace"): void {
  const { path, query } = current();
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  navigate(query.size > 0 ? `${path}?${query}` : path, how);
}

export function useAddress(): Address {
  const [address, setAddress] = useState(current);
  useEffect(() => {
    const update = () => setAddress(current());
    for (const name of ["popstate", CHANGED]) addEventListener(name, update);
    document.addEventListener("click", followLink);
    return () => {
      for (const name of ["popstate", CHANGED]) removeEventListener(name, update);
      document.removeEventListener("click", followLink);
    };
  }, []);
  return address;
}

/** Plain clicks on links to our own pages stay in the page; all others are the browser's. */
function followLink(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
    return;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link || link.origin !== location.origin || link.target || link.hasAttribute("download")) return;
  if (link.pathname !== BASE && !studyOf(link.pathname)) return;
  event.preventDefault();
  navigate(link.pathname + link.search);
  scrollTo(0, 0);
}
