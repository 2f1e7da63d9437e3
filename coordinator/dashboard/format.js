// Numbers, spans of time and sizes as people read them. Pure. Each takes null for "not known" and
// then returns a dash.

export const DASH = '–';
const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

const integers = new Intl.NumberFormat('en');

export const count = (value) => (isNumber(value) ? integers.format(Math.round(value)) : DASH);

export const percent = (share, digits = 2) =>
  isNumber(share) ? `${(share * 100).toFixed(digits)} %` : DASH;

// Four significant digits, whatever the magnitude: losses, learning rates.
export function decimal(value) {
  if (!isNumber(value)) return DASH;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

export const rate = (value) => (isNumber(value) ? (value < 100 ? value.toFixed(1) : count(value)) : DASH);

// "0.84 ms", "213 ms", "2.5 s"
export function milliseconds(value) {
  if (!isNumber(value)) return DASH;
  return value < 1000 ? `${Number(value.toPrecision(3))} ms` : `${Number((value / 1000).toPrecision(3))} s`;
}

// "3 d 4 h", "5 min 20 s"
export function duration(seconds) {
  if (!isNumber(seconds)) return DASH;
  const total = Math.max(0, Math.round(seconds));
  const units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  const first = units.findIndex(([, size]) => total >= size);
  if (first < 0) return '0 s';
  const parts = [];
  let rest = total;
  for (const [name, size] of units.slice(first, first + 2)) {
    const amount = Math.floor(rest / size);
    rest -= amount * size;
    if (amount) parts.push(`${amount} ${name}`);
  }
  return parts.join(' ');
}

export const age = (timeMs, nowMs) =>
  isNumber(timeMs) ? `${duration((nowMs - timeMs) / 1000)} ago` : DASH;

export function bytes(value) {
  if (!isNumber(value)) return DASH;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let power = 0;
  let scaled = value;
  while (scaled >= 1024 && power < units.length - 1) {
    scaled /= 1024;
    power += 1;
  }
  return `${power === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${units[power]}`;
}

// Axis labels: 1200 -> "1.2k".
export function short(value) {
  if (Math.abs(value) >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (Math.abs(value) >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  return String(Number(value.toPrecision(4)));
}

export const clockTime = (timeMs) =>
  new Date(timeMs).toLocaleString('en-GB', {
    year: 'numeric', month: 'short', day: 'numeric',
    hour: '2-digit', minute: '2-digit', second: '2-digit',
  });

// Done share 0..1 of a job's progress; null when the number of steps is not known yet.
export const share = (progress) =>
  progress && progress.total_steps > 0 ? Math.min(1, progress.step / progress.total_steps) : null;
