// The 19 labels of a map: facer's numbers, names for people, keys, and colours that tell neighbours apart.

export interface Label {
  id: number;
  name: string;
  short: string; // where there is little room
  key: string; // of the keyboard's digit row; "⇧" with Shift
  color: string;
  mirror: number; // the label on the other side of the face
}

const label = (id: number, name: string, key: string, color: string, mirror = id): Label => ({
  id, name, key, color, mirror, short: name.replace("Left ", "L. ").replace("Right ", "R. ").replace("Inner mouth", "Mouth").replace("Background", "Backdrop"),
});

/** In the order of the palette: what people change most comes first. Sides are the person's own. */
export const LABELS: Label[] = [
  label(14, "Hair", "1", "#a86b3c"),
  label(2, "Face", "2", "#e8b08f"),
  label(10, "Nose", "3", "#f2c94c"),
  label(7, "Left brow", "4", "#5f8f4e", 6),
  label(6, "Right brow", "5", "#86b56f", 7),
  label(9, "Left eye", "6", "#3f8fd6", 8),
  label(8, "Right eye", "7", "#6fb6ec", 9),
  label(13, "Upper lip", "8", "#d9536f"),
  label(12, "Lower lip", "9", "#b23a5c"),
  label(11, "Inner mouth", "0", "#6b2740"),
  label(5, "Left ear", "⇧1", "#c98bd8", 4),
  label(4, "Right ear", "⇧2", "#a267b8", 5),
  label(1, "Neck", "⇧3", "#c98a63"),
  label(3, "Clothes", "⇧4", "#4b6bb8"),
  label(15, "Glasses", "⇧5", "#52d1c8"),
  label(16, "Hat", "⇧6", "#8a7df0"),
  label(17, "Earring", "⇧7", "#ffd98a"),
  label(18, "Necklace", "⇧8", "#e6e07a"),
  label(0, "Background", "⇧9", "#3a404c"),
];

export const BY_ID = new Map(LABELS.map((l) => [l.id, l]));

/** The label of a key press on the digit row, on any keyboard layout. */
export function labelOfKey(event: KeyboardEvent): Label | undefined {
  const digit = /^Digit(\d)$/.exec(event.code)?.[1];
  return digit ? LABELS.find((l) => l.key === (event.shiftKey ? "⇧" : "") + digit) : undefined;
}

/** RGB of every label, by its number. */
export const COLORS: [number, number, number][] = Array.from({ length: 19 }, (_, id) => {
  const n = parseInt(BY_ID.get(id)!.color.slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
});
