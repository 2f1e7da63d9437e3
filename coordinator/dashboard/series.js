// The curves of one job, as far as the page has fetched them. Pure data.

export class Curves {
  constructor() {
    this.byName = new Map();  // name -> [{x: step, y: value}], ascending in x
    this.lastStep = -1;
  }

  // What to ask for next. The last step is asked for again: its validation may have been reported
  // after its loss. All is asked for again while a restarted job trains steps a second time
  // (`step` lies behind), since those points replace what is here.
  afterStep(step) {
    return step < this.lastStep ? -1 : Math.max(-1, this.lastStep - 1);
  }

  // Takes what /metrics?after_step=afterStep answered.
  merge(series, afterStep) {
    for (const {name, steps, values} of series) {
      const kept = (this.byName.get(name) ?? []).filter((point) => point.x <= afterStep);
      const points = steps.map((step, index) => ({x: step, y: values[index]}));
      this.byName.set(name, kept.concat(points));
    }
    this.lastStep = -1;
    for (const points of this.byName.values()) {
      if (points.length) this.lastStep = Math.max(this.lastStep, points[points.length - 1].x);
    }
  }

  // Names that begin with `beginning` and end with `end`, as [name, what stands between]; numbers in
  // their own order.
  between(beginning, end) {
    return [...this.byName.keys()]
      .filter((name) => name.startsWith(beginning) && name.endsWith(end))
      .map((name) => [name, name.slice(beginning.length, name.length - end.length)])
      .sort(([, one], [, other]) => one.localeCompare(other, 'en', {numeric: true}));
  }

  // Of several curves the least and the greatest value at every step that all of them have.
  envelope(names) {
    const lowest = new Map();
    const highest = new Map();
    const seen = new Map();
    for (const name of names) {
      for (const {x, y} of this.points(name)) {
        if (y === null) continue;
        lowest.set(x, Math.min(lowest.get(x) ?? y, y));
        highest.set(x, Math.max(highest.get(x) ?? y, y));
        seen.set(x, (seen.get(x) ?? 0) + 1);
      }
    }
    const curve = (values) => [...values]
      .filter(([x]) => seen.get(x) === names.length)
      .map(([x, y]) => ({x, y})).sort((one, other) => one.x - other.x);
    return [curve(lowest), curve(highest)];
  }

  points(name) {
    return this.byName.get(name) ?? [];
  }
}
