/**
 * Colours that people with any kind of colour blindness can tell apart (after Okabe and Ito), each at least 3:1 against its
 * ground; beyond the first ones, dashes and shapes tell them apart as well.
 */

const ON_LIGHT = ["#0072b2", "#c74e00", "#008060", "#a8467e", "#8a6d00", "#2b2b2b", "#3b8fc4", "#7a3db8", "#b3261e", "#4f7a00", "#00838f", "#6b5b4b"];
const ON_DARK = ["#56b4e9", "#ff9447", "#2cc295", "#e69fd0", "#f0e442", "#e0e0e0", "#9db4ff", "#c79bff", "#ff8a80", "#a5d65c", "#5fd7e0", "#cbb8a0"];
const DASHES = [[], [], [], [8, 4], [2, 3], [10, 3, 2, 3], [], [8, 4], [2, 3], [10, 3, 2, 3], [8, 4], [2, 3]];

export function color(seat: number, dark: boolean): string {
  const colors = dark ? ON_DARK : ON_LIGHT;
  return colors[seat % colors.length]!;
}

export function dash(seat: number): number[] {
  return DASHES[seat % DASHES.length]!;
}

/** Whether the ground behind an element is dark, by what the host painted there. */
export function onDark(element: Element): boolean {
  const channels = getComputedStyle(element).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [];
  const [red = 255, green = 255, blue = 255] = channels;
  return 0.299 * red + 0.587 * green + 0.114 * blue < 128;
}

/** A CSS colour made see-through. */
export function faint(hex: string, alpha: number): string {
  return hex + Math.round(alpha * 255).toString(16).padStart(2, "0");
}
