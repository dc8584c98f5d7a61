/** Where the application is served: `/`, or a path below it that a proxy in front of the gateway takes away. */

/** The path of the start page, with a slash at its end. The server writes it into the page. */
export const BASE = new URL(globalThis.document?.documentElement.dataset.base ?? "/", "http://any.invalid/").pathname;

/** The path of something of the gateway, given without a slash at its start. */
export const at = (path: string): string => BASE + path;
