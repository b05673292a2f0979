/** @file Dates in words of a format, as Python's strftime writes them in the C locale. */

const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

const two = (n: number, pad = "0") => String(n).padStart(2, pad);

/** Days since New Year, the first being 1. */
const dayOfYear = (d: Date) =>
  1 + Math.round((Date.UTC(d.getFullYear(), d.getMonth(), d.getDate()) - Date.UTC(d.getFullYear(), 0, 1)) / 86_400_000);

const WRITES: Readonly<Record<string, (d: Date) => string>> = {
  a: (d) => DAYS[d.getDay()].slice(0, 3),
  A: (d) => DAYS[d.getDay()],
  b: (d) => MONTHS[d.getMonth()].slice(0, 3),
  B: (d) => MONTHS[d.getMonth()],
  c: (d) => strftime(d, "%a %b %e %H:%M:%S %Y"),
  d: (d) => two(d.getDate()),
  D: (d) => strftime(d, "%m/%d/%y"),
  e: (d) => two(d.getDate(), " "),
  f: (d) => `${String(d.getMilliseconds()).padStart(3, "0")}000`,
  F: (d) => strftime(d, "%Y-%m-%d"),
  H: (d) => two(d.getHours()),
  I: (d) => two(d.getHours() % 12 || 12),
  j: (d) => String(dayOfYear(d)).padStart(3, "0"),
  m: (d) => two(d.getMonth() + 1),
  M: (d) => two(d.getMinutes()),
  p: (d) => (d.getHours() < 12 ? "AM" : "PM"),
  R: (d) => strftime(d, "%H:%M"),
  S: (d) => two(d.getSeconds()),
  T: (d) => strftime(d, "%H:%M:%S"),
  u: (d) => String(d.getDay() || 7),
  w: (d) => String(d.getDay()),
  x: (d) => strftime(d, "%m/%d/%y"),
  X: (d) => strftime(d, "%H:%M:%S"),
  y: (d) => two(d.getFullYear() % 100),
  Y: (d) => String(d.getFullYear()),
  "%": () => "%",
};

/** A time of this machine's zone. `%-d` is `%d` without its zero; what is not known stays as it stands. */
export function strftime(date: Date, format: string): string {
  return format.replace(/%(-?)([a-zA-Z%])/g, (whole, bare: string, directive: string) => {
    const write = Object.hasOwn(WRITES, directive) ? WRITES[directive] : undefined;
    if (!write) return whole;
    return bare ? write(date).replace(/^[0 ]+(?=.)/, "") : write(date);
  });
}
