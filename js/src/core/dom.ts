/** Small helpers over the DOM. Text from data is only ever set as text: nothing in this project assigns markup. */

type Attributes = Record<string, string | number | boolean | null | undefined>;

/** An element with classes, attributes (null, undefined and false are left out) and children (strings become text). */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children);
  return element;
}

/** Sets the text only where it differs, so that a selection inside it stays. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets or removes an attribute, only where it differs. */
export function setAttribute(element: Element, name: string, value: string | null): void {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** The focused element, if it is within this one. */
export function focusedIn(element: Element): Element | null {
  const focused = (element.getRootNode() as Document | ShadowRoot).activeElement ?? null;
  return focused && element.contains(focused) ? focused : null;
}

/** Runs `draw` once at the next frame, however often it is called. */
export function perFrame(draw: () => void, signal: AbortSignal): () => void {
  let frame = 0;
  signal.addEventListener("abort", () => cancelAnimationFrame(frame));
  return () => {
    if (frame || signal.aborted) return;
    frame = requestAnimationFrame(() => {
      frame = 0;
      if (!signal.aborted) draw();
    });
  };
}

/** A signal that ends with the view: the host's own where it gives one, and `end` for hosts that only call the cleanup. */
export function lifetime(given?: AbortSignal): { signal: AbortSignal; end: () => void } {
  const controller = new AbortController();
  given?.addEventListener("abort", () => controller.abort());
  return { signal: controller.signal, end: () => controller.abort() };
}
