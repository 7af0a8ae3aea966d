/** How bars and scattered points are drawn, for uPlot. */
import type uPlot from "uplot";

type Builder = uPlot.Series.PathBuilder;

/** Bars that stand beside each other, one a series: `place` of `of`. `gap` gives the distance between neighbours along x. */
export function bars(place: () => number, of: () => number, gap: () => number): Builder {
  return (u, series, first, last) => {
    const path = new Path2D();
    const { min = 0, max = 1 } = u.scales.x!;
    const slot = (u.bbox.width * (gap() || (max! - min!) / 4 || 1) * 0.8) / (max! - min! || 1);
    const width = Math.max(1, slot / of());
    const floor = u.valToPos(0, "y", true);
    for (let i = first; i <= last; i++) {
      const value = u.data[series]![i];
      if (value === null || value === undefined) continue;
      const left = u.valToPos(u.data[0]![i]!, "x", true) - slot / 2 + place() * width;
      const top = u.valToPos(value, "y", true);
      path.rect(left, Math.min(top, floor), Math.max(1, width - 1), Math.abs(floor - top));
    }
    return { stroke: null, fill: path, clip: null, band: null, gaps: null, flags: 1 } as unknown as uPlot.Series.Paths;
  };
}

/** Points as shapes: a circle, a square, a triangle, a diamond, by the series' number. */
export function scattered(shape: number): Builder {
  return (u, series, first, last) => {
    const path = new Path2D();
    const size = 3.5 * devicePixelRatio;
    for (let i = first; i <= last; i++) {
      const value = u.data[series]![i];
      if (value === null || value === undefined) continue;
      const x = u.valToPos(u.data[0]![i]!, "x", true);
      const y = u.valToPos(value, "y", true);
      if (shape % 4 === 0) {
        path.moveTo(x + size, y);
        path.arc(x, y, size, 0, 2 * Math.PI);
      } else if (shape % 4 === 1) {
        path.rect(x - 0.9 * size, y - 0.9 * size, 1.8 * size, 1.8 * size);
      } else {
        const low = shape % 4 === 2 ? y + 0.8 * size : y + 1.2 * size;
        path.moveTo(x, y - 1.2 * size);
        if (shape % 4 === 2) path.lineTo(x + 1.1 * size, low);
        else {
          path.lineTo(x + 1.2 * size, y);
          path.lineTo(x, low);
        }
        path.lineTo(shape % 4 === 2 ? x - 1.1 * size : x - 1.2 * size, shape % 4 === 2 ? low : y);
        path.closePath();
      }
    }
    return { stroke: null, fill: path, clip: null, band: null, gaps: null, flags: 1 } as unknown as uPlot.Series.Paths;
  };
}
