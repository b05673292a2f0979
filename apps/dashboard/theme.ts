/** @file Colours as the style sheet has them, for what is drawn on canvases. */

export interface Colours {
  readonly series: readonly string[];
  readonly muted: string;
  readonly grid: string;
  readonly line: string;
  readonly bad: string;
}

/** Of the theme that is in force. */
export function colours(): Colours {
  // The sheet has both themes in one value; as the colour of an element it is the one in force.
  const probe = document.documentElement.appendChild(document.createElement("i"));
  const value = (name: string) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const found = {
    series: Array.from({ length: 8 }, (_, i) => value(`--s${i}`)),
    muted: value("--muted"),
    grid: value("--grid"),
    line: value("--line"),
    bad: value("--bad"),
  };
  probe.remove();
  return found;
}

/** rgb(r, g, b), see-through. */
export const withAlpha = (rgb: string, alpha: number): string =>
  rgb.replace("rgb(", "rgba(").replace(")", `, ${alpha})`);

/** A number as a background for a token: from `low` (blue) over 0 (none) to `high` (orange). Text stays readable on it. */
export function heat(x: number | null | undefined, low: number, middle: number, high: number): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "transparent";
  const share =
    x >= middle
      ? high > middle
        ? (x - middle) / (high - middle)
        : 0
      : low < middle
        ? (x - middle) / (middle - low)
        : 0;
  const strength = Math.min(1, Math.abs(share)) * 0.5;
  return share >= 0 ? `rgba(234, 112, 20, ${strength.toFixed(3)})` : `rgba(47, 107, 222, ${strength.toFixed(3)})`;
}
