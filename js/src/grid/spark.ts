/** The change rate of the last minute as a small line. A picture of a number that is also there as text, so hidden from readers. */
import { h } from "../core/dom";

const POINTS = 60;
const HEIGHT = 14;
const SVG = "http://www.w3.org/2000/svg";

export class Spark {
  readonly element = h("span", { class: "rtw-spark", "aria-hidden": true, title: "changes a second, over the last minute" });
  private readonly line = document.createElementNS(SVG, "polyline");
  private readonly rates: number[] = [];

  constructor() {
    const picture = document.createElementNS(SVG, "svg");
    picture.setAttribute("viewBox", `0 0 ${POINTS} ${HEIGHT}`);
    picture.append(this.line);
    this.element.append(picture);
  }

  add(rate: number): void {
    this.rates.push(rate);
    if (this.rates.length > POINTS) this.rates.shift();
    this.line.setAttribute("points", sparkline(this.rates));
  }
}

/** The points of the line, the newest at the right edge, the highest at the top. */
export function sparkline(rates: number[]): string {
  const highest = Math.max(1, ...rates);
  const from = POINTS - rates.length;
  return rates.map((rate, i) => `${from + i},${(HEIGHT - 1 - (rate / highest) * (HEIGHT - 2)).toFixed(1)}`).join(" ");
}
