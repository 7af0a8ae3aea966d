/** What the browser does for a page: files to download, and the clipboard. */
import { h } from "./dom";

export function download(name: string, text: string, type: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Pages that are not served safely have no clipboard of their own; the old way needs an event. Returns whether it was allowed. */
export async function writeClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const put = (event: ClipboardEvent): void => {
      event.clipboardData?.setData("text/plain", text);
      event.preventDefault();
      event.stopImmediatePropagation();
    };
    document.addEventListener("copy", put, { capture: true });
    const done = document.execCommand?.("copy") ?? false;
    document.removeEventListener("copy", put, { capture: true });
    return done;
  }
}
