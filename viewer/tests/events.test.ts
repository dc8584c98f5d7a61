import { beforeEach, describe, expect, test, vi } from "vitest";
import { type ServerEvent, parse, subscribe } from "../src/events";

/** The part of the browser's EventSource that the module uses, driven by the tests. */
class Source extends EventTarget {
  static readonly CLOSED = 2;
  static all: Source[] = [];
  readyState = 1;
  onopen: () => void = () => {};
  onerror: () => void = () => {};

  constructor(readonly url: string) {
    super();
    Source.all.push(this);
  }

  send(name: string, data: string): void {
    this.dispatchEvent(new MessageEvent(name, { data }));
  }

  close(): void {
    this.readyState = Source.CLOSED;
  }
}

beforeEach(() => {
  Source.all = [];
  vi.stubGlobal("EventSource", Source);
  vi.useFakeTimers();
});

function listen() {
  const heard: ServerEvent[] = [];
  const stop = subscribe((event) => heard.push(event));
  return { heard, stop };
}

test("data that is not JSON is no event", () => {
  expect(parse("{")).toBeNull();
  expect(parse('{"id":"1"}')).toEqual({ id: "1" });
});

describe("the connection", () => {
  test("is one for all listeners and ends with the last", () => {
    const [first, second] = [listen(), listen()];
    expect(Source.all).toHaveLength(1);
    Source.all[0]?.send("stored", '{"study":"1"}');
    expect(first.heard).toEqual([{ name: "stored", data: { study: "1" } }]);
    expect(second.heard).toEqual(first.heard);
    first.stop();
    expect(Source.all[0]?.readyState).toBe(1);
    second.stop();
    expect(Source.all[0]?.readyState).toBe(Source.CLOSED);
  });

  test("says when it is back, as events may have been missed", () => {
    const { heard, stop } = listen();
    Source.all[0]?.onopen();
    expect(heard).toEqual([]);
    Source.all[0]?.onerror();
    Source.all[0]?.onopen();
    expect(heard).toEqual([{ name: "resumed", data: null }]);
    stop();
  });

  test("that the browser gave up is made anew after a while", () => {
    const { heard, stop } = listen();
    Source.all[0]?.close();
    Source.all[0]?.onerror();
    vi.advanceTimersByTime(5000);
    expect(Source.all).toHaveLength(2);
    Source.all[1]?.onopen();
    expect(heard).toEqual([{ name: "resumed", data: null }]);
    stop();
  });
});
