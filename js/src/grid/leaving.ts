/**
 * Rows that went out of the table a moment ago: a picture of each stays at its place, struck through and fading, over the
 * rows that close up. Pictures are only to be seen: they are not counted, announced, focused or selected.
 */

/** Milliseconds that a picture stays; the style sheet's animation is as long. */
export const LEAVE = 600;
/** Milliseconds after it that its place stays free of others: where rows go all the time, the next one must be read, too. */
const REST = 600;

interface Ghost {
  element: HTMLElement;
  /** Pixels from the top of the full list. */
  y: number;
  until: number;
  /** Not drawn yet: it still moves along with the view, to be where the row was seen. */
  fresh: boolean;
}

export class Leaving {
  private ghosts: Ghost[] = [];
  /** Until when a place of the view, in rows from its top, is free for no other picture. */
  private readonly taken = new Map<number, number>();

  get any(): boolean {
    return this.ghosts.length > 0;
  }

  /** Whether a place of the view is free for a picture. */
  isFree(place: number, now: number): boolean {
    return (this.taken.get(place) ?? 0) <= now;
  }

  add(element: HTMLElement, place: number, y: number, now: number): void {
    this.taken.set(place, now + LEAVE + REST);
    this.ghosts.push({ element, y, until: now + LEAVE, fresh: true });
  }

  clear(): void {
    for (const { element } of this.ghosts) element.remove();
    this.ghosts = [];
    this.taken.clear();
  }

  /** Puts the pictures at their places behind the rows of `body`; `moved`: by how much the view has just moved. */
  draw(body: HTMLElement, moved: number, place: (y: number) => number): void {
    for (const ghost of this.ghosts) {
      if (ghost.fresh) ghost.y += moved;
      ghost.fresh = false;
      ghost.element.style.transform = `translateY(${place(ghost.y)}px)`;
      if (ghost.element.parentNode !== body) body.append(ghost.element);
    }
  }

  /** Removes the pictures that are over; returns when the next one is. */
  sweep(now: number): number | undefined {
    for (const ghost of this.ghosts) if (ghost.until <= now) ghost.element.remove();
    this.ghosts = this.ghosts.filter((ghost) => ghost.until > now);
    for (const [place, until] of this.taken) if (until <= now) this.taken.delete(place);
    return this.ghosts.length ? Math.min(...this.ghosts.map((ghost) => ghost.until)) : undefined;
  }
}
