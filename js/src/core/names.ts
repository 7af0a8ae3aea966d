/** What stands for a name: letters and a colour. */

/** Two letters for a face. */
export function initials(key: string): string {
  const words = key.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const letters = words.length > 1 ? words.slice(0, 2).map((word) => [...word][0]) : [...(words[0] ?? key)].slice(0, 2);
  return letters.join("").toUpperCase();
}

/** The same colour for the same name, everywhere. */
export function hue(key: string): number {
  let hash = 0;
  for (const letter of key) hash = (hash * 31 + letter.codePointAt(0)!) % 360;
  return hash;
}
