/** What mouse, touch and wheel on the image mean. */

import type { Point, Viewport } from "./viewport";

export interface GestureTarget {
  /** Goes forward or back by whole frames. */
  scroll: (frames: number) => void;
  /** Changes the window: `dx` pixels to the right widen it, `dy` pixels down lower the brightness. */
  adjustWindow: (dx: number, dy: number) => void;
  /** Whether there is a window to change. */
  canWindow: () => boolean;
  /** Where the mouse is, or null when it left. */
  hover: (at: Point | null) => void;
}

/** A wheel's notch is a frame; a touchpad sends many small steps that add up to one. */
const WHEEL_STEP = 60;
const TOUCH_STEP = 10;
const LINE_HEIGHT = 40;

/** Listens on the canvas until `signal` aborts. */
export function listen(
  canvas: HTMLCanvasElement,
  viewport: Viewport,
  target: GestureTarget,
  signal: AbortSignal,
): void {
  const pointers = new Map<number, Point>();
  let wheel = 0;
  let travelled = 0;

  const place = (event: MouseEvent): Point => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  const onWheel = (event: WheelEvent) => {
    event.preventDefault();
    const delta = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : event.deltaY * LINE_HEIGHT;
    if (event.ctrlKey || event.metaKey) return viewport.zoomAt(Math.exp(-delta / 300), place(event));
    wheel += delta;
    const frames = Math.trunc(wheel / WHEEL_STEP);
    wheel -= frames * WHEEL_STEP;
    if (frames !== 0) target.scroll(frames);
  };

  const onDown = (event: PointerEvent) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    travelled = 0;
  };

  const onMove = (event: PointerEvent) => {
    const now = place(event);
    const before = pointers.get(event.pointerId);
    if (event.pointerType === "mouse") target.hover(now);
    if (!before) return;
    if (pointers.size === 2) pinch(event.pointerId, before, now);
    else drag(event, now.x - before.x, now.y - before.y);
    pointers.set(event.pointerId, now);
  };

  const drag = (event: PointerEvent, dx: number, dy: number) => {
    const moves = event.shiftKey || (event.buttons & 1) === 0 || !target.canWindow();
    if (event.pointerType !== "touch") return moves ? viewport.move(dx, dy) : target.adjustWindow(dx, dy);
    if (viewport.zoom > 1) return viewport.move(dx, dy);
    travelled += dy;
    const frames = Math.trunc(travelled / TOUCH_STEP);
    travelled -= frames * TOUCH_STEP;
    if (frames !== 0) target.scroll(frames);
  };

  const pinch = (moved: number, before: Point, now: Point) => {
    const other = [...pointers].find(([id]) => id !== moved)?.[1];
    if (!other) return;
    const distance = (point: Point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
    viewport.zoomAt(distance(now) / distance(before), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    viewport.move((now.x - before.x) / 2, (now.y - before.y) / 2);
  };

  const onUp = (event: PointerEvent) => pointers.delete(event.pointerId);

  canvas.addEventListener("wheel", onWheel, { passive: false, signal });
  canvas.addEventListener("pointerdown", onDown, { signal });
  canvas.addEventListener("pointermove", onMove, { signal });
  canvas.addEventListener("pointerup", onUp, { signal });
  canvas.addEventListener("pointercancel", onUp, { signal });
  canvas.addEventListener("pointerleave", () => target.hover(null), { signal });
  canvas.addEventListener("dblclick", () => viewport.reset(), { signal });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
}
